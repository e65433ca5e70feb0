// The room's client: it says in plain words why the server refused something, and comes back only when it may.

const room = document.getElementById("main");
const status = document.getElementById("status");
const state = document.getElementById("state");
const wait = document.getElementById("wait");
const logIn = document.getElementById("log-in");
const again = document.getElementById("again");
const messages = document.getElementById("messages");
const refusal = document.getElementById("refusal");
const retry = document.getElementById("retry");
const form = document.getElementById("say");
const field = form.elements.text;
const send = form.querySelector("button");
const tries = document.getElementById("tries");

const FIRST_DELAY = 0.5, LONGEST_DELAY = 20, LONGEST_WAIT = 3600; // seconds
const LOG_IN_HELPS = ["unauthenticated", "invalid_credentials", "credentials_revoked", "credentials_expired", "session_ended"];
// With `?token` in its address the page comes with an access token, and renews it while the socket is open.
const WITH_TOKEN = new URLSearchParams(location.search).has("token");
const MESSAGES_KEPT = 200, SENT_KEPT = 20;

// For a socket that closed before its error frame arrived: the words, and whether to come back.
const CLOSED = {
  1000: ["The server ended the conversation.", false],
  1012: ["The server is restarting.", true],
  4400: ["Too much of what this page sent was wrong.", false],
  4401: ["You are not logged in.", false],
  4403: ["You may not enter this room.", false],
  4404: ["There is no such room.", false],
  4408: ["The connection was silent for too long.", true],
  4409: ["You have too many connections.", false],
  4413: ["A message was too big.", false],
  4415: ["This chat takes text only.", false],
  4419: ["Your login has expired.", true],
  4423: ["You are blocked.", false],
  4429: ["Too many messages.", true],
  4440: ["An operator ended the connection.", false],
};

let socket, fatal, attempts = 0, following = true;
const sent = new Map();
const countdowns = new Map();

function countDown(element, words, seconds, then) {
  clearInterval(countdowns.get(element));
  const end = performance.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    const time = left < 100 ? `${left} s` : `${Math.ceil(left / 60)} min`;
    element.textContent = left > 0 ? `${words} ${time}` : "";
    if (left <= 0) {
      clearInterval(countdowns.get(element));
      then();
    }
  };
  countdowns.set(element, setInterval(tick, 250));
  tick();
}

function show(name, words) {
  clearInterval(countdowns.get(wait));
  wait.textContent = "";
  status.dataset.state = name;
  if (state.textContent !== words) state.textContent = words;
  send.disabled = tries.disabled = name !== "connected";
  again.hidden = !["waiting", "refused", "blocked"].includes(name);
}

function explain(words, retryAfter) {
  // Unchanged text stays untouched, or a screen reader would read out every message of a flood.
  if (refusal.textContent !== words) refusal.textContent = words;
  clearInterval(countdowns.get(retry));
  retry.textContent = "";
  if (retryAfter) countDown(retry, "Try again in", retryAfter, () => explain(""));
}

function add(user, text) {
  const item = document.createElement("li");
  const name = document.createElement("b");
  const said = document.createElement("span");
  item.className = user === room.dataset.user ? "mine" : "";
  name.textContent = user;
  said.textContent = text;
  item.append(name, " ", said);
  messages.append(item);
  while (messages.children.length > MESSAGES_KEPT) messages.firstElementChild.remove();
  follow();
}

// The end stays in sight, unless somebody has scrolled back to read.
function follow() {
  if (following) messages.scrollTop = messages.scrollHeight;
}

function received(event) {
  const frame = JSON.parse(event.data);
  if (frame.type === "hello") {
    attempts = 0;
    logIn.hidden = true;
    explain("");
    show("connected", "Connected");
  } else if (frame.type === "chat.said") {
    add(frame.user, frame.text);
  } else if (frame.type === "token_expiring" && WITH_TOKEN) {
    renew();
  } else if (frame.type === "token_refreshed") {
    show("connected", "Connected, token renewed");
  } else if (frame.type === "error" && frame.fatal) {
    fatal = frame;
  } else if (frame.type === "error") {
    refused(frame);
  }
}

function refused(frame) {
  const details = (frame.errors ?? []).map(({ path, message }) => (path ? `${path}: ${message}` : message));
  explain([`${frame.message} (${frame.code})`, ...details].join(" · "), frame.retry_after);
  // What was typed is not lost.
  if (field.value === "" && sent.has(frame.ref)) field.value = sent.get(frame.ref);
}

function closed(event) {
  const [words, mayReturn] = fatal ? [`${fatal.message} (${fatal.code})`, fatal.reconnect] :
    CLOSED[event.code] ?? ["The connection was lost.", true];
  const blocked = event.code === 4423 || fatal?.code === "blocked";
  const retryAfter = fatal?.retry_after ?? 0;
  logIn.hidden = event.code !== 4401 && !LOG_IN_HELPS.includes(fatal?.code);
  fatal = undefined;
  if (!mayReturn || retryAfter > LONGEST_WAIT) {
    show(blocked ? "blocked" : "refused", words);
    return;
  }
  // Full jitter: the clients of a server that went away do not all come back in the same moment.
  const backOff = Math.random() * Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempts);
  attempts += 1;
  show(blocked ? "blocked" : "waiting", words);
  countDown(wait, "Next try in", retryAfter + backOff, connect);
}

async function token() {
  const csrf = document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "";
  const answer = await fetch(room.dataset.tokens, { method: "POST", headers: { "X-CSRFToken": csrf } });
  return answer.ok ? (await answer.json()).access : undefined;
}

async function renew() {
  const access = await token().catch(() => undefined);
  if (access) socket.send(JSON.stringify({ type: "refresh_token", token: access }));
}

async function connect() {
  show("connecting", "Connecting …");
  const url = new URL(room.dataset.socket, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const access = WITH_TOKEN ? await token().catch(() => undefined) : undefined;
  // Never in the URL, which ends up in logs: JavaScript may set this one header of a handshake.
  socket = new WebSocket(url, access ? ["channels-secure.v1", `channels-secure.bearer.${access}`] : []);
  socket.addEventListener("message", received);
  socket.addEventListener("close", closed);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (!text || send.disabled) return;
  const id = crypto.getRandomValues(new Uint32Array(1))[0];
  sent.set(id, text);
  if (sent.size > SENT_KEPT) sent.delete(sent.keys().next().value);
  explain("");
  socket.send(JSON.stringify({ type: "chat.say", id, text }));
  field.value = "";
  field.focus();
});

for (const button of document.querySelectorAll("[data-frame]")) {
  button.addEventListener("click", () => {
    const { frame, times = 1, binary } = button.dataset;
    const data = binary === undefined ? frame : new TextEncoder().encode(frame);
    for (let turn = 0; turn < Number(times); turn += 1) socket.send(data);
  });
}

messages.addEventListener("scroll", () => {
  following = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
});
new ResizeObserver(follow).observe(messages);
again.addEventListener("click", connect);
connect();
