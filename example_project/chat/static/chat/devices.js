// The user's own open sockets, on whatever device: look at them, end one, or all that are not of this login.

import { csrf, find, make } from "./elements.js";

/** @typedef {{ id: string, address: string, path: string, since: string, current: boolean }} Connection */

const devices = find("devices", HTMLDetailsElement);
const list = find("devices-list", HTMLUListElement);
const state = find("devices-state", HTMLElement);
const others = find("devices-others", HTMLButtonElement);

async function ask(method = "GET", path = "") {
  const answer = await fetch(devices.dataset.url + path, { method, headers: { "X-CSRFToken": csrf() } });
  const content = await answer.json();
  if (!answer.ok) throw new Error(content.message);
  return content;
}

async function refresh() {
  /** @type {{ connections: Connection[] }} */
  const { connections } = await ask();
  list.replaceChildren(...connections.map(item));
  others.hidden = connections.every(({ current }) => current);
  state.textContent = connections.length ? "" : "None is known yet: it takes a second or two.";
}

const complain = (/** @type {Error} */ error) => {
  state.textContent = error.message;
};

async function end(path = "") {
  try {
    const { ended } = await ask("DELETE", path);
    await refresh();
    state.textContent = ended.length === 1 ? "Ended." : `Ended ${ended.length}.`;
  } catch (error) {
    complain(/** @type {Error} */ (error));
  }
}

function item(/** @type {Connection} */ { id, address, path, since, current }) {
  const began = new Date(since).toLocaleTimeString();
  const button = make("button", {
    type: "button",
    className: "quiet",
    textContent: "End",
    ariaLabel: `End the connection to ${path} since ${began}`,
    onclick: () => end(`${id}/`),
  });
  return make("li", {}, `${path} from ${address}, since ${began}${current ? ", this login" : ""} `, button);
}

others.addEventListener("click", () => end());
devices.addEventListener("toggle", () => {
  if (devices.open) refresh().catch(complain);
});
