// What the connection is doing, and why something was refused: in the server's own words.

import { countDown, find } from "./elements.js";

/** @typedef {{ code?: string, message: string, retry_after?: number, errors?: { path: string, message: string }[] }} Refusal */

const status = find("status", HTMLElement);
const state = find("state", HTMLElement);
const wait = find("wait", HTMLElement);
const logIn = find("log-in", HTMLElement);
const again = find("again", HTMLButtonElement);
const refusal = find("refusal", HTMLElement);
const retry = find("retry", HTMLElement);

const WORDS = {
  connecting: "Connecting …",
  open: "Connected",
  waiting: "The connection was lost.",
  paused: "Waiting for the network, or until somebody looks.",
  denied: "The connection was refused.",
  closed: "The conversation has ended.",
};
const LOG_IN_HELPS = ["unauthenticated", "invalid_credentials", "credentials_revoked", "credentials_expired", "session_ended"];

/** @param {Refusal} refusal */
const inWords = ({ code, message, errors = [] }) => [
  `${message || WORDS.denied}${code ? ` (${code})` : ""}`,
  ...errors.map(({ path, message }) => (path ? `${path}: ${message}` : message)),
].join(" · ");

/** Keep the line about the connection true, and let people try again. */
export function showStatus(/** @type {import("./room.js").Socket} */ socket) {
  let reason = "";
  const show = (/** @type {string} */ words) => {
    if (state.textContent !== words) state.textContent = words;
  };
  socket.on("state", (change) => {
    if (change.state === "connecting") reason = "";
    if (change.state === "open" || change.state === "denied") explain();
    status.dataset.state = change.state;
    show(reason || WORDS[change.state]);
    countDown(wait, "Next try in", change.delay / 1000);
    logIn.hidden = true;
    again.hidden = ["connecting", "open"].includes(change.state);
  });
  socket.on("denied", (refused) => {
    show(reason = inWords(refused));
    logIn.hidden = !LOG_IN_HELPS.includes(refused.code);
    if (refused.code === "blocked") status.dataset.state = "blocked";
  });
  again.addEventListener("click", () => socket.connect());
}

export function showRenewal() {
  state.textContent = "Connected, token renewed";
}

/** Say why a message was refused, and when another will be taken; nothing when called without a refusal. */
export function explain(/** @type {Refusal | undefined} */ refused = undefined) {
  const words = refused ? inWords(refused) : "";
  // Unchanged text stays untouched, or a screen reader would read out every message of a flood.
  if (refusal.textContent !== words) refusal.textContent = words;
  const { retry_after: seconds = 0 } = refused ?? {};
  countDown(retry, "Try again in", seconds, () => seconds && explain());
}
