// What is said, and what happens in the room.

import { find, make } from "./elements.js";

const log = find("log", HTMLElement);
const list = find("messages", HTMLOListElement);
const KEPT = 200;
let following = true;

/** @typedef {{ id: string, user: { id: number | string | null, name: string }, at: string, text: string }} Said */

/** @param {Said} said @param {{ isMine: boolean, mayDelete: boolean, onDelete: () => void }} how */
export function showSaid({ id, user, at, text }, { isMine, mayDelete, onDelete }) {
  const item = make(
    "li",
    { className: isMine ? "mine" : "" },
    make("b", { textContent: user.name }),
    time(at),
    " ",
    make("span", { textContent: text }),
    make("button", { type: "button", className: "delete", ariaLabel: "Delete this message", hidden: !mayDelete, onclick: onDelete }),
  );
  item.dataset.id = id;
  item.dataset.user = String(user.id);
  append(item);
}

export function showNotice(/** @type {string} */ text) {
  append(make("li", { className: "notice", textContent: text }));
}

function time(/** @type {string} */ at) {
  const element = make("time", { dateTime: at });
  element.dataset.clock = new Date(at).toLocaleTimeString([], { timeStyle: "short" });
  return element;
}

export function remove(/** @type {string} */ id) {
  for (const item of list.querySelectorAll("li")) if (item.dataset.id === id) item.remove();
}

/** Show the buttons anew after somebody's role has changed. */
export function allowDeleting(/** @type {(user: string | undefined) => boolean} */ may) {
  for (const button of list.querySelectorAll("button")) button.hidden = !may(button.closest("li")?.dataset.user);
}

function append(/** @type {HTMLElement} */ item) {
  list.append(item);
  while (list.children.length > KEPT) list.firstElementChild?.remove();
  follow();
}

// The end stays in sight, unless somebody has scrolled back to read.
function follow() {
  if (following) log.scrollTop = log.scrollHeight;
}

log.addEventListener("scroll", () => {
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
});
new ResizeObserver(follow).observe(log);
