// A page without a browser: sockets that the test plays the server of, a clock that it turns, and no chance.

import { afterEach, beforeEach, mock } from "node:test";

import { SecureSocket } from "../../channels_secure/static/channels_secure/client.js";

const realImmediate = setImmediate;

export class FakeSocket {
  static all = [];

  constructor(url, protocols = []) {
    for (const protocol of protocols) {
      // RFC 6455 section 4.1, in the words of Chromium.
      if (/[^\w.~!#$%&'*+^`|-]/.test(protocol)) throw new SyntaxError(`The subprotocol '${protocol}' is invalid.`);
    }
    Object.assign(this, { url: String(url), protocols, readyState: 0, bufferedAmount: 0, sent: [], closedWith: undefined });
    FakeSocket.all.push(this);
  }

  send(data) {
    if (this.readyState === 0) throw new Error("InvalidStateError");
    this.sent.push(data);
  }

  close(code) {
    this.closedWith = code ?? 1005;
    this.readyState = 3;
  }

  /** What was sent, but for the first ping. */
  get messages() {
    return this.sent.slice(1).map((data) => JSON.parse(data));
  }

  async opens() {
    this.readyState = 1;
    this.onopen?.({});
    await settled();
  }

  async says(frame) {
    this.onmessage?.({ data: typeof frame === "string" ? frame : JSON.stringify(frame) });
    await settled();
  }

  async closes(code, reason = "") {
    this.readyState = 3;
    this.onclose?.({ code, reason });
    await settled();
  }

  /** Accepts the handshake and lets the client in. */
  async lets_in(hello = { type: "hello", max_message_size: 1000 }) {
    await this.opens();
    await this.says(hello);
  }
}

/** Let chance be another number each time, as ids need. */
export function shuffle() {
  let number = 0;
  Math.random.mock.mockImplementation(() => (number += 0.001));
}

/** Let every promise that can go on do so. */
export const settled = () => new Promise((resolve) => realImmediate(resolve));

/** Turn the clock; a timer that is set meanwhile is not reached, so what follows another needs a turn of its own. */
export async function pass(milliseconds) {
  mock.timers.tick(milliseconds);
  await settled();
}

/** The newest socket, once the client has made one. */
export async function latest() {
  await settled();
  return FakeSocket.all.at(-1);
}

/** A client together with everything that it says. */
export function client(options, url = "/ws/chat/lobby/") {
  const socket = new SecureSocket(url, options);
  const heard = { state: [], open: [], message: [], denied: [], error: [] };
  for (const [name, details] of Object.entries(heard)) socket.on(name, (detail) => details.push(detail));
  return Object.assign(socket, { heard });
}

/** A client that has been let in. */
export async function opened(options) {
  const socket = client(options);
  const server = await latest();
  await server.lets_in();
  return [socket, server];
}

/** The page goes online or offline, is looked at or not. */
export async function page({ online = navigator.onLine, hidden = document.hidden }) {
  const signs = [];
  if (online !== navigator.onLine) signs.push(online ? "online" : "offline");
  if (hidden !== document.hidden) signs.push("visibilitychange");
  Object.assign(navigator, { onLine: online });
  Object.assign(document, { hidden });
  for (const sign of signs) window.dispatchEvent(new Event(sign));
  await settled();
}

export const sockets = () => FakeSocket.all.length;

let window = new EventTarget();
globalThis.addEventListener = (...given) => window.addEventListener(...given);
globalThis.removeEventListener = (...given) => window.removeEventListener(...given);
globalThis.WebSocket = FakeSocket;
Object.defineProperty(globalThis, "navigator", { value: { onLine: true }, writable: true });

beforeEach(() => {
  FakeSocket.all = [];
  window = new EventTarget();
  globalThis.location = new URL("https://chat.example/rooms/lobby/");
  globalThis.document = { hidden: false, cookie: "theme=dark; csrftoken=c5rf; sessionid=none" };
  navigator.onLine = true;
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  mock.method(performance, "now", () => Date.now());
  // Every random delay is the longest that it may be.
  mock.method(Math, "random", () => 1);
});

afterEach(() => {
  mock.timers.reset();
  mock.restoreAll();
});
