// One room's page. SecureSocket connects and comes back, the other modules show; here is who hears what.

import { SecureSocket } from "../channels_secure/client.js";
import { countDown, csrf, find } from "./elements.js";
import { allowDeleting, remove, showNotice, showSaid } from "./messages.js";
import { People, tell } from "./people.js";
import { explain, showRenewal, showStatus } from "./status.js";
import { offerTries } from "./tries.js";

/** @typedef {import("./wire.js").ToChatConsumer} ToServer */
/** @typedef {import("./wire.js").FromChatConsumer} FromServer */
/** @typedef {SecureSocket<ToServer, FromServer>} Socket */

const { path = "", room = "", user = "", tokens = "", encrypted, sealed } = find("main", HTMLElement).dataset;
const form = find("say", HTMLFormElement);
const field = find("text", HTMLInputElement);
const send = find("send", HTMLButtonElement);
const tries = find("tries", HTMLFieldSetElement);
const inside = find("inside", HTMLElement);
const order = find("order", HTMLElement);
const slowMode = find("set-slow", HTMLFormElement);
const slow = find("slow", HTMLInputElement);

// With `?token` in its address the page comes with an access token, and renews it while the socket is open.
const WITH_TOKEN = new URLSearchParams(location.search).has("token");

async function token({ refresh = false }) {
  const answer = await fetch(tokens, { method: "POST", headers: { "X-CSRFToken": csrf() } });
  if (refresh && answer.ok) showRenewal();
  return answer.ok ? (await answer.json()).access : null;
}

const sealing = sealed === undefined ? undefined : await import("./sealed.js");
const identity = await sealing?.openIdentity(user).catch(() => {
  field.disabled = true;
  showNotice("This browser cannot keep keys, so you can neither read nor speak here.");
});

/** @type {Socket} */
const socket = new SecureSocket(path, WITH_TOKEN ? { token } : {});
const people = new People(user, ask);

/** Ask for something, and say why not where it is refused. */
function ask(/** @type {ToServer} */ message) {
  explain();
  socket.request(message).catch(explain);
}

const isMine = (/** @type {unknown} */ author) => String(author) === user;
const mayDelete = (/** @type {unknown} */ author) => isMine(author) || people.mayModerate(author);

function showMessage(/** @type {import("./messages.js").Said} */ said) {
  const onDelete = () => ask({ type: "room.delete", message: said.id });
  showSaid(said, { isMine: isMine(said.user.id), mayDelete: mayDelete(said.user.id), onDelete });
}

const speak = sealing && identity ?
  sealing.seal(socket, { room, user, identity, onSaid: showMessage, onNotice: showNotice }) :
  (/** @type {string} */ text) => socket.request({ type: "room.say", text });

/** Whether the page was made for the room as it is: where it is encrypted, those who belong to it have keys. */
function fits(/** @type {import("./wire.js").RoomEntered | import("./wire.js").RoomChanged} */ rules) {
  const wasEncrypted = encrypted !== undefined, isEncrypted = rules.encrypted ?? wasEncrypted;
  return isEncrypted === wasEncrypted && (isEncrypted && people.role !== "guest") === (sealed !== undefined);
}

/** Show the rules that hold for oneself: at the entrance all of them, later those that have changed. */
function showRules(/** @type {import("./wire.js").RoomEntered | import("./wire.js").RoomChanged} */ rules) {
  if (rules.role) {
    people.role = rules.role;
    find("role", HTMLElement).textContent = people.role;
    order.hidden = !people.keepsOrder;
    people.show();
    allowDeleting(mayDelete);
  }
  if (rules.title) find("title", HTMLElement).textContent = rules.title;
  if (rules.muted != null) countDown(find("muted", HTMLElement), "You are muted for", rules.muted);
  if (rules.slow != null) {
    find("slow-mode", HTMLElement).textContent = rules.slow ? `Slow mode: one message in ${rules.slow} s` : "";
    slow.value = String(rules.slow);
  }
}

function heard(/** @type {FromServer} */ frame) {
  people.hear(frame);
  if (frame.type === "room.entered") inside.hidden = false;
  if (frame.type === "room.entered" || frame.type === "room.changed") {
    showRules(frame);
    if (!fits(frame)) location.reload();
  }
  if (frame.type === "room.said" && typeof frame.text === "string") showMessage({ ...frame, text: frame.text });
  if (frame.type === "room.deleted") remove(frame.id);
  if (frame.type === "room.moderated") {
    showNotice(tell(frame));
    allowDeleting(mayDelete);
  }
}

showStatus(socket);
offerTries(socket, path);
socket.on("message", heard);
socket.on("error", explain);
socket.on("state", ({ state }) => {
  send.disabled = tries.disabled = state !== "open" || field.disabled;
  if (state === "denied") inside.hidden = order.hidden = true;
});
slowMode.addEventListener("submit", (event) => {
  event.preventDefault();
  ask({ type: "room.slow", seconds: Number(slow.value) });
});
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = field.value.trim();
  if (!text || send.disabled) return;
  explain();
  field.value = "";
  field.focus();
  try {
    await speak(text);
  } catch (error) {
    explain(/** @type {Error} */ (error));
    // What was typed is not lost.
    if (field.value === "") field.value = text;
  }
});
