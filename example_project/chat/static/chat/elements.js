// Elements of the page: found, or made without markup, so that nothing anybody writes is ever taken for it.

/**
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 */
export function find(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`The page has no ${kind.name} #${id}.`);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]>} properties
 * @param {...(Node | string)} children
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Django's token for requests that change something; empty where nobody is logged in. */
export const csrf = () => document.querySelector("input[name=csrfmiddlewaretoken]")?.getAttribute("value") ?? "";

/** @type {Map<HTMLElement, number>} */
const countdowns = new Map();

/** Show `words` and the time that is left, then nothing. */
export function countDown(/** @type {HTMLElement} */ element, words = "", seconds = 0, then = () => {}) {
  clearInterval(countdowns.get(element));
  const end = performance.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((end - performance.now()) / 1000);
    element.textContent = left <= 0 ? "" : `${words} ${left < 100 ? `${left} s` : `${Math.ceil(left / 60)} min`}`;
    if (left > 0) return;
    clearInterval(countdowns.get(element));
    then();
  };
  countdowns.set(element, setInterval(tick, 250));
  tick();
}
