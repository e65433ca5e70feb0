// What the server refuses, to be tried: a module for the demo, which a chat of your own has no need of.

import { explain } from "./status.js";

/** @param {import("./room.js").Socket} socket @param {string} path */
export function offerTries(socket, path) {
  for (const button of document.querySelectorAll("button")) {
    const { frame, raw, times = 1 } = button.dataset;
    if (raw !== undefined) button.addEventListener("click", () => sendRaw(path, raw, button.dataset.binary !== undefined));
    else if (frame !== undefined) {
      button.addEventListener("click", () => {
        for (let turn = 0; turn < Number(times); turn += 1) socket.send(JSON.parse(frame));
      });
    }
  }
}

/** SecureSocket sends nothing but JSON, so what is not goes over a socket of its own. */
function sendRaw(/** @type {string} */ path, /** @type {string} */ raw, isBinary = false) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.addEventListener("message", ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.type === "hello") socket.send(isBinary ? new TextEncoder().encode(raw) : raw);
    if (frame.type !== "error") return;
    explain(frame);
    socket.close();
  });
}
