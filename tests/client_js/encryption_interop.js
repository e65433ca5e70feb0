// Does with encryption.js what the test in Python asks for in a file, and prints what came of it.
import { readFile } from "node:fs/promises";

import { Identity, SealedRoom, fernet, fingerprintOf } from "../../channels_secure/static/channels_secure/encryption.js";
import { memory } from "./encryption_relay.js";

const { key, tokens, texts, room, me, state, said } = JSON.parse(await readFile(process.argv[2], "utf8"));

async function frames() {
  const codec = await fernet(key);
  return {
    decoded: await Promise.all(tokens.map((token) => codec.decode(token))),
    encoded: await Promise.all(texts.map((text) => codec.encode(text))),
  };
}

async function sealed() {
  const pkcs8 = Buffer.from(me.pkcs8, "base64"), curve = { name: "ECDH", namedCurve: "P-256" };
  const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, curve, false, ["deriveBits"]);
  const identity = new Identity(me.key, await fingerprintOf(me.key), privateKey), handlers = {}, asked = [];
  const answers = {
    "keys.publish": () => ({ type: "keys.published", key: me.key }),
    "keys.fetch": () => ({ ...state, in_line: asked.filter(({ type }) => type === "room.say").length === 0 }),
    "keys.rotate": ({ epoch }) => ({ type: "keys.rotated", epoch }),
    // The first is passed on; then the members are others, and the second comes in a new epoch.
    "room.say": ({ sealed: { epoch } }) => asked.filter(({ type }) => type === "room.say").length === 2 && epoch === 1
      ? { type: "keys.stale", epoch: 1 } : { type: "room.done" },
  };
  const socket = {
    state: "open",
    on: (name, handler) => ((handlers[name] = handler), () => {}),
    async request(message) {
      asked.push(message);
      return answers[message.type](message);
    },
  };
  const mine = new SealedRoom(socket, { room, user: me.id, identity, store: memory() });
  const heard = new Promise((resolve, reject) => {
    mine.on("message", resolve);
    mine.on("error", ({ error }) => reject(error));
  });
  handlers.message(said);
  const { text } = await heard;
  await mine.say("from Node: grüße");
  await mine.say("with a new room key");
  return { heard: text, asked };
}

console.log(JSON.stringify({ ...await frames(), ...await sealed() }));
