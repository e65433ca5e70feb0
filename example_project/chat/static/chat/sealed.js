// An encrypted room: keys are made in this browser, and people compare their fingerprints.

import { EncryptionError, Identity, SealedRoom, spoken } from "../channels_secure/encryption.js";
import { find, make } from "./elements.js";
import { explain } from "./status.js";

const list = find("fingerprints", HTMLUListElement);
const takeOver = find("take-over", HTMLButtonElement);

/** @typedef {import("../channels_secure/encryption.js").Opened} Opened */

// The module's own words are for whoever calls it.
const WORDS = new Map([
  ["key_elsewhere", "Your key for this room is in another browser."],
  ["key_changed", "Somebody has another key now: compare fingerprints first."],
]);

/** @param {{ code?: string, message: string }} error */
const inPlainWords = ({ code = "", message }) => ({ code, message: WORDS.get(code) ?? message });

/** The keys of whoever is logged in, made at the first visit. */
export const openIdentity = (/** @type {string} */ user) => Identity.open(user);

/**
 * Seal what is said over a socket, and hand on what can be opened.
 *
 * @param {import("./room.js").Socket} socket
 * @param {{ room: string, user: string, identity: Identity, onSaid: (said: Opened) => void, onNotice: (text: string) => void }} how
 * @returns {(text: string) => Promise<unknown>}
 */
export function seal(socket, { room, user, identity, onSaid, onNotice }) {
  const sealed = new SealedRoom(socket, { room, user, identity });
  sealed.on("message", (said) => {
    if (said.missing) onNotice(`${said.missing} of ${said.user.name}’s messages did not arrive.`);
    if (said.changed) onNotice(`The next message comes with a key of ${said.user.name}’s that you have not accepted.`);
    onSaid(said);
  });
  sealed.on("keychange", ({ user }) => onNotice(`${user.name} has another key now: compare fingerprints again.`));
  sealed.on("error", ({ error, frame }) => {
    if (frame?.type === "room.said") onNotice(`A message of ${frame.user.name}’s cannot be read: ${error.message}`);
    else explain(inPlainWords(error));
    takeOver.hidden = !("code" in error && error.code === "key_elsewhere");
  });
  sealed.on("ready", () => {
    takeOver.hidden = true;
  });
  sealed.on("members", (members) => list.replaceChildren(...members.map((member) => item(member))));
  takeOver.addEventListener("click", () => sealed.takeOver().then(() => explain(), () => {}));

  const item = (/** @type {import("../channels_secure/encryption.js").Member} */ { user: member, fingerprint, verified, changed }) => {
    const isMine = String(member.id) === user;
    const standing = isMine ? "you" : changed ? "changed" : verified ? "compared" : "not compared";
    const entry = make("li", {}, make("span", { className: "name", textContent: member.name }));
    entry.append(make("span", { className: changed ? "tag bad" : "tag", textContent: standing }));
    entry.append(make("code", { textContent: spoken(fingerprint) }));
    const accept = () => {
      const options = { fingerprint, verified: true };
      sealed.accept(member.id, options).catch((error) => explain(inPlainWords(error)));
    };
    if (!isMine && (changed || !verified)) {
      entry.append(make("button", { type: "button", className: "quiet", textContent: "They match", ariaLabel: `${member.name}’s fingerprints match`, onclick: accept }));
    }
    return entry;
  };
  return (text) => sealed.say(text).catch((error) => {
    // What the server refused says for itself when to try again.
    throw error instanceof EncryptionError ? inPlainWords(error) : error;
  });
}
