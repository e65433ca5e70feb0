// Who is here and what they are; for those who keep order, what they may do about it.

import { find, make } from "./elements.js";

/** @typedef {import("./wire.js").ToChatConsumer} ToServer */
/** @typedef {{ id: number | string, name: string, role?: string, banned?: boolean, isHere?: boolean, mutedUntil?: number }} Person */
/** @typedef {import("./wire.js").RoomModerated} Moderated */

const list = find("people", HTMLUListElement);
const dialog = find("person", HTMLDialogElement);
const LONGEST_TIMER = 86_400; // seconds
const RANKS = ["guest", "member", "moderator", "owner"];
const rank = (/** @type {string | undefined} */ role) => RANKS.indexOf(role ?? "guest");

/** @type {Record<string, (user: Person["id"]) => ToServer>} */
const ACTS = {
  mute: (user) => ({ type: "room.mute", user, seconds: 60 }),
  unmute: (user) => ({ type: "room.unmute", user }),
  kick: (user) => ({ type: "room.kick", user }),
  ban: (user) => ({ type: "room.ban", user }),
  unban: (user) => ({ type: "room.unban", user }),
  guest: (user) => ({ type: "room.promote", user, role: "guest" }),
  member: (user) => ({ type: "room.promote", user, role: "member" }),
  moderator: (user) => ({ type: "room.promote", user, role: "moderator" }),
};

export class People {
  /** What one is here oneself. */
  role = "guest";
  /** @type {Map<string, Person>} */ #known = new Map();
  #me;

  /** @param {string} me @param {(message: ToServer) => void} act */
  constructor(me, act) {
    this.#me = me;
    const belonging = JSON.parse(find("belonging", HTMLScriptElement).textContent ?? "[]");
    for (const { muted, ...person } of belonging) this.#know({ ...person, ...this.#mutedFor(muted) });
    dialog.addEventListener("close", () => {
      const person = this.#known.get(dialog.dataset.user ?? "");
      if (person && dialog.returnValue) act(ACTS[dialog.returnValue](person.id));
    });
  }

  get keepsOrder() {
    return rank(this.role) >= rank("moderator");
  }

  /** Whether one may do something to somebody; the server decides, and this spares people what it would refuse. */
  mayModerate(/** @type {unknown} */ user) {
    return this.keepsOrder && String(user) !== this.#me && rank(this.#known.get(String(user))?.role) < rank(this.role);
  }

  /** Take in what the server said. */
  hear(/** @type {import("./wire.js").FromChatConsumer} */ frame) {
    if (frame.type === "room.entered" || (frame.type === "room.here" && frame.members)) {
      for (const person of this.#known.values()) person.isHere = false;
      for (const { id, name } of frame.members ?? []) if (id !== null) this.#know({ id, name, isHere: true });
    } else if (frame.type === "room.joined" || frame.type === "room.left") {
      const { id, name } = frame.user;
      if (id !== null) this.#know({ id, name, isHere: frame.type === "room.joined" });
    } else if (frame.type === "room.moderated" && frame.user?.id != null) {
      const muted = frame.act === "mute" || frame.act === "unmute" ? this.#mutedFor(frame.seconds ?? 0) : {};
      this.#know({ id: frame.user.id, name: frame.user.name, ...muted, ...consequences(frame) });
    } else if (frame.type !== "room.here") return;
    if ("count" in frame) find("count", HTMLElement).textContent = String(frame.count);
    this.show();
  }

  show() {
    const focused = document.activeElement?.closest("li")?.dataset.user;
    const shown = [...this.#known.values()]
      .filter(({ isHere, role, banned }) => isHere || rank(role) > 0 || (banned && this.keepsOrder))
      .sort((one, other) => Number(other.isHere ?? 0) - Number(one.isHere ?? 0) || one.name.localeCompare(other.name));
    list.replaceChildren(...shown.map((person) => this.#item(person)));
    if (focused) [...list.children].find((item) => item.id === `person-${focused}`)?.querySelector("button")?.focus();
  }

  #mutedFor(/** @type {number} */ seconds) {
    // The list is shown anew when it is over.
    if (seconds) setTimeout(() => this.show(), Math.min(seconds, LONGEST_TIMER) * 1000);
    return { mutedUntil: Date.now() + seconds * 1000 };
  }

  #know(/** @type {Person} */ person) {
    this.#known.set(String(person.id), { ...this.#known.get(String(person.id)), ...person });
  }

  #item(/** @type {Person} */ person) {
    const { id, name, role = "guest", banned, isHere, mutedUntil = 0 } = person;
    const isMuted = mutedUntil > Date.now();
    const facts = [role !== "guest" && role, String(id) === this.#me && "you", isMuted && "muted", banned && "banned"];
    const item = make("li", { id: `person-${id}`, className: isHere ? "here" : "away" });
    item.append(make("span", { className: "name", textContent: name }));
    if (!isHere) item.append(make("span", { className: "hint", textContent: "away" }));
    for (const fact of facts) if (fact) item.append(make("span", { className: "tag", textContent: fact }));
    if (this.mayModerate(id)) {
      const open = () => this.#ask(person);
      item.append(make("button", { type: "button", className: "quiet", textContent: "Moderate", ariaLabel: `Moderate ${name}`, onclick: open }));
    }
    item.dataset.user = String(id);
    return item;
  }

  #ask(/** @type {Person} */ { id, name, role = "guest", banned = false, mutedUntil = 0 }) {
    const isMuted = mutedUntil > Date.now();
    const useful = new Set(banned ? ["unban"] : [isMuted ? "unmute" : "mute", "kick", "ban"]);
    if (!banned) for (const other of RANKS) if (other !== role && rank(other) < rank(this.role)) useful.add(other);
    find("person-name", HTMLElement).textContent = name;
    for (const button of dialog.querySelectorAll("button")) button.hidden = !!button.value && !useful.has(button.value);
    dialog.dataset.user = String(id);
    dialog.returnValue = "";
    dialog.showModal();
  }
}

/** What an act changes about whom it is done to. */
function consequences(/** @type {Moderated} */ { act, role }) {
  if (act === "ban") return { banned: true, role: "guest" };
  if (act === "unban") return { banned: false };
  return role ? { role } : {};
}

/** @type {Record<Moderated["act"], (user: string, facts: Moderated) => string>} */
const DEEDS = {
  mute: (user, { seconds }) => `muted ${user} for ${seconds} s`,
  unmute: (user) => `unmuted ${user}`,
  kick: (user) => `removed ${user} from the room`,
  ban: (user) => `banned ${user}`,
  unban: (user) => `lifted the ban on ${user}`,
  delete: (user) => `deleted a message by ${user}`,
  slow: (_, { seconds }) => seconds ? `set slow mode to ${seconds} s` : "turned slow mode off",
  promote: (user, { role }) => `made ${user} a ${role}`,
  hand_over: (user) => `handed the room over to ${user}`,
};

/** An act as a sentence. */
export function tell(/** @type {Moderated} */ frame) {
  return `${frame.by.name} ${DEEDS[frame.act](frame.user?.name ?? "somebody", frame)}.`;
}
