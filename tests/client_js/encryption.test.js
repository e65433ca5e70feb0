import assert from "node:assert/strict";
import { test } from "node:test";

import {
  EncryptionError, Identity, SealedRoom, fernet, fingerprintOf, spoken,
} from "../../channels_secure/static/channels_secure/encryption.js";
import { Relay, memory } from "./encryption_relay.js";

const { good, bad } = JSON.parse(process.env.FERNET_VECTORS);
const OTHER = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const at = (time) => ({ clock: () => time });
const isUnreadable = (error) => error instanceof EncryptionError && error.code === "unreadable";

// Fernet

test("the specification's token is made", async () => {
  const codec = await fernet(good.key, { ...at(good.madeAt), random: () => Uint8Array.from(good.iv) });
  assert.equal(await codec.encode(good.text), good.token);
});

test("the specification's token is read", async () => {
  const codec = await fernet([good.key], { ttl: good.ttl, ...at(good.readAt) });
  assert.equal(await codec.decode(good.token), good.text);
});

for (const { what, token, now, ttl } of bad) {
  test(`the specification's invalid token is refused: ${what}`, async () => {
    const codec = await fernet(good.key, { ttl, ...at(now) });
    await assert.rejects(codec.decode(token), isUnreadable);
  });
}

test("what only its signature protects is refused at any age", async () => {
  const codec = await fernet(good.key, { ttl: null });
  for (const { token, what } of bad) {
    if (/far-future|expired/.test(what)) assert.equal(await codec.decode(token), "");
    else await assert.rejects(codec.decode(token), isUnreadable, what);
  }
});

test("the age of a token is counted to the second, as in Python", async () => {
  const read = (time) => fernet(good.key, { ttl: 60, ...at(time) }).then((codec) => codec.decode(good.token));
  for (const after of [60, 60.9, -60]) assert.equal(await read(good.madeAt + after), good.text);
  for (const after of [61, -61]) await assert.rejects(read(good.madeAt + after), isUnreadable);
});

test("noise is unreadable and nothing else", async () => {
  const codec = await fernet(good.key), token = await codec.encode("x");
  const almost = [`${token} `, `${token}=`, token.slice(4), token.replaceAll("=", ""), token.replace(/_|-|A/, "/")];
  for (const frame of ["", "{}", "gAAAAA", "é", "\0", null, ...almost]) {
    await assert.rejects(codec.decode(frame), isUnreadable, String(frame));
  }
});

test("one changed bit anywhere is noticed", async () => {
  const codec = await fernet(good.key), bytes = Buffer.from(await codec.encode("hello"), "base64url");
  for (let index = 0; index < bytes.length; index++) {
    const changed = Buffer.from(bytes);
    changed[index] ^= 1;
    const frame = changed.toString("base64").replaceAll("+", "-").replaceAll("/", "_");
    await assert.rejects(codec.decode(frame), isUnreadable, `byte ${index}`);
  }
});

test("the first key encrypts and each decrypts", async () => {
  const both = await fernet([OTHER, good.key]), old = await fernet(good.key), fresh = await fernet(OTHER);
  assert.equal(await both.decode(await old.encode("x")), "x");
  assert.equal(await fresh.decode(await both.encode("grüße 👋")), "grüße 👋");
  await assert.rejects(old.decode(await both.encode("x")), isUnreadable);
});

test("a long text is carried whole", async () => {
  const codec = await fernet(good.key), text = "ä".repeat(200_000);
  assert.equal(await codec.decode(await codec.encode(text)), text);
});

test("a key that is none is refused without being repeated", async () => {
  for (const key of ["", "my-secret", `${good.key}A`, "é".repeat(44)]) {
    await assert.rejects(fernet(key), (error) => error instanceof TypeError && !error.message.includes("my-secret"));
  }
  await assert.rejects(fernet([]), TypeError);
});

// Rooms

const isSaid = (frame) => frame.type === "room.said";

const once = (room, name) => new Promise((resolve) => room.on(name, resolve));

class Person {
  heard = [];
  errors = [];
  keychanges = [];

  static async enter(relay, id, store = memory(), options = {}) {
    const person = new Person(), identity = await Identity.open(id, { store });
    Object.assign(person, { id, store, identity, socket: relay.connect(id) });
    person.room = new SealedRoom(person.socket, { room: "red", user: id, identity, store, ...options });
    person.room.on("message", (message) => person.heard.push(message));
    person.room.on("error", ({ error }) => person.errors.push(error));
    person.room.on("keychange", (change) => person.keychanges.push(change));
    await new Promise((resolve) => {
      person.room.on("ready", resolve);
      person.room.on("error", resolve);
    });
    return person;
  }

  get texts() {
    return this.heard.map((message) => message.text);
  }

  get codes() {
    return this.errors.map((error) => error.code);
  }

  async until(condition) {
    const deadline = performance.now() + 5000;
    while (!condition()) {
      assert.ok(performance.now() < deadline, `waited in vain: ${JSON.stringify(this.texts)} ${this.errors}`);
      await new Promise(setImmediate);
    }
  }

  hears(count) {
    return this.until(() => this.heard.length + this.errors.length >= count);
  }
}

async function two() {
  const relay = new Relay(), ann = await Person.enter(relay, 1), ben = await Person.enter(relay, 2);
  return { relay, ann, ben };
}

test("members hear what is said, and the server never has the words", async () => {
  const { relay, ann, ben } = await two();
  await ann.room.say("meet me at noon");
  await ben.room.say("grüße 👋");
  for (const person of [ann, ben]) {
    await person.hears(2);
    assert.deepEqual(person.texts, ["meet me at noon", "grüße 👋"]);
  }
  assert.equal(ben.heard[0].user.id, 1);
  assert.ok(Math.abs(ben.heard[0].sentAt - Date.now()) < 60_000);
  const seen = JSON.stringify([relay.relayed, relay.epochs, relay.members]);
  for (const words of ["noon", "grüße", Buffer.from("meet me at noon").toString("base64url").slice(0, -2)]) {
    assert.ok(!seen.includes(words), words);
  }
});

test("many messages at once come in their order, and nothing is missing", async () => {
  const { ann, ben } = await two(), texts = Array.from({ length: 30 }, (_, n) => `${n}`);
  await Promise.all(texts.map((text) => ann.room.say(text)));
  await ben.hears(30);
  assert.deepEqual(ben.texts, texts);
  assert.deepEqual(ben.heard.map(({ missing }) => missing), [null, ...Array(29).fill(0)]);
  assert.equal(new Set(relayedStreams(ann)).size, 1);
  assert.equal(ann.socket.asked.filter((type) => type === "keys.rotate").length, 1);
});

const relayedStreams = ({ socket }) => socket.relay.relayed.filter(isSaid).map(({ sealed }) => sealed.stream);

test("the private key cannot be taken out, and is the same the next time", async () => {
  const store = memory(), one = await Identity.open(7, { store }), again = await Identity.open(7, { store });
  assert.equal(one.privateKey.extractable, false);
  await assert.rejects(crypto.subtle.exportKey("jwk", one.privateKey));
  assert.equal(again.publicKey, one.publicKey);
  assert.notEqual((await Identity.open(8, { store })).publicKey, one.publicKey);
});

test("of two tabs that begin at once both have one key", async () => {
  const store = memory(), [one, two] = await Promise.all([Identity.open(7, { store }), Identity.open(7, { store })]);
  assert.equal(one.publicKey, two.publicKey);
});

test("a fingerprint is that of the key, and people read half of it", async () => {
  const { publicKey, fingerprint } = await Identity.open(7, { store: memory() });
  const digest = await crypto.subtle.digest("SHA-256", Buffer.from(publicKey, "base64url"));
  assert.equal(fingerprint, Buffer.from(digest).toString("hex"));
  assert.equal(await fingerprintOf(publicKey), fingerprint);
  assert.equal(spoken(fingerprint).replaceAll(" ", ""), fingerprint.slice(0, 32));
  for (const key of ["", "AAAA", `${publicKey}A`, publicKey.slice(1)]) await assert.rejects(fingerprintOf(key));
});

test("when a member leaves, the next message has a new room key that the member cannot have", async () => {
  const { relay, ann, ben } = await two();
  await ann.room.say("before");
  relay.leave(2);
  await ann.room.say("after");
  assert.equal(relay.epochs.length, 2);
  assert.deepEqual(relay.epochs[1].boxes.map(({ to }) => to), [ann.identity.fingerprint]);
  await ben.hears(1);
  const said = relay.relayed.findLast(({ sealed }) => sealed);
  relay.keys.set(2, ben.identity.publicKey);
  await assert.rejects(ben.room.read(said), (error) => error.code === "no_room_key");
});

test("who joins later hears what is said from then on and can speak at once", async () => {
  const { relay, ann } = await two();
  await ann.room.say("old");
  const cleo = await Person.enter(relay, 3);
  const old = relay.relayed.find(({ sealed }) => sealed);
  await assert.rejects(cleo.room.read(old), (error) => error.code === "no_room_key");
  await cleo.room.say("hello");
  await ann.hears(2);
  await cleo.hears(1);
  assert.deepEqual(ann.texts, ["old", "hello"]);
  assert.deepEqual(cleo.texts, ["hello"]);
});

test("whoever hears of a new key makes a room key before they speak", async () => {
  const { relay, ann } = await two();
  await ann.room.say("old");
  await Person.enter(relay, 3);
  await ann.until(() => ann.room.members.length === 3);
  await ann.room.say("new");
  assert.deepEqual(ann.socket.asked.slice(-3), ["room.say", "keys.rotate", "room.say"]);
});

test("a page goes on with the room key that somebody else has made", async () => {
  const { relay, ann, ben } = await two();
  await ann.room.say("mine");
  const cleo = await Person.enter(relay, 3);
  await cleo.room.say("hers");
  await ann.hears(2);
  await ann.room.say("with hers");
  await ben.hears(3);
  assert.deepEqual([ben.texts, ben.codes], [["mine", "hers", "with hers"], []]);
});

test("a message that is said again leaves no gap behind", async () => {
  const { relay, ann, ben } = await two();
  await ann.room.say("1");
  let bent = 0;
  relay.bend = (frame) => frame.type === "room.done" && !bent++ ? [{ type: "keys.stale", epoch: 1 }] : [frame];
  await ann.room.say("2");
  await ben.hears(3);
  assert.deepEqual(ben.heard.map(({ text, missing }) => [text, missing]), [["1", null], ["2", 0], ["2", null]]);
});

test("two who make a room key at the same time agree on one", async () => {
  const { relay, ann, ben } = await two();
  await Promise.all([ann.room.say("a"), ben.room.say("b")]);
  await ann.hears(2);
  await ben.hears(2);
  assert.deepEqual(new Set(ann.texts), new Set(["a", "b"]));
  assert.deepEqual(ann.texts, ben.texts);
  assert.deepEqual(ann.codes, []);
});

// A server that is not honest

test("a message that is played again is refused, also after the page was loaded anew", async () => {
  const { relay, ann, ben } = await two();
  await ann.room.say("pay 10");
  await ben.hears(1);
  const said = relay.relayed.find(isSaid);
  ben.socket.hear(said);
  await ben.hears(2);
  assert.deepEqual(ben.codes, ["replayed"]);
  ben.room.close();
  relay.sockets.delete(ben.socket);
  const again = await Person.enter(relay, 2, ben.store);
  again.socket.hear(said);
  await again.hears(1);
  assert.deepEqual([again.texts, again.codes], [[], ["replayed"]]);
  assert.equal((await again.room.read(said)).text, "pay 10");
});

test("messages in another order are refused, and those kept back are counted", async () => {
  const { relay, ann, ben } = await two();
  relay.bend = (frame, id) => isSaid(frame) && id === 2 ? [] : [frame];
  for (const text of ["1", "2", "3"]) await ann.room.say(text);
  relay.bend = (frame) => [frame];
  const [one, two_, three] = relay.relayed.filter(isSaid);
  for (const said of [one, three, two_]) ben.socket.hear(said);
  await ben.hears(3);
  assert.deepEqual(ben.heard.map(({ text, missing }) => [text, missing]), [["1", null], ["3", 1]]);
  assert.deepEqual(ben.codes, ["replayed"]);
});

const another = (box) => `${box.startsWith("A") ? "B" : "A"}${box.slice(1)}`;
const FORGERIES = {
  "another sender": (said) => ({ ...said, user: { id: 2, name: "user 2" } }),
  "another number": (said) => ({ ...said, sealed: { ...said.sealed, n: said.sealed.n + 1 } }),
  "another stream": (said) => ({ ...said, sealed: { ...said.sealed, stream: "A".repeat(22) } }),
  "another text": (said) => ({ ...said, sealed: { ...said.sealed, box: another(said.sealed.box) } }),
  "a number that is text": (said) => ({ ...said, sealed: { ...said.sealed, n: `${said.sealed.n}` } }),
  "a number that is none": (said) => ({ ...said, sealed: { ...said.sealed, n: 1.5 } }),
  "a box that is none": (said) => ({ ...said, sealed: { ...said.sealed, box: "A" } }),
};
for (const [what, forge] of Object.entries(FORGERIES)) {
  test(`a forged message does not open: ${what}`, async () => {
    const { relay, ann, ben } = await two();
    await ann.room.say("x");
    await ben.hears(1);
    ben.socket.hear(forge(relay.relayed.find(isSaid)));
    await ben.hears(2);
    assert.deepEqual(ben.texts, ["x"]);
    assert.deepEqual(ben.codes, ["unreadable"]);
  });
}

test("a message of one room does not open in another", async () => {
  const relay = new Relay(), ann = await Person.enter(relay, 1);
  const ben = await Person.enter(relay, 2, memory(), { room: "blue" });
  await ann.room.say("x");
  await ben.hears(1);
  assert.deepEqual(ben.texts, []);
  assert.ok(ben.codes.includes("bad_room_key"));
});

test("a room key that the server makes itself is refused", async () => {
  const { relay, ann, ben } = await two(), server = await Identity.open(9, { store: memory() });
  const forged = new Relay();
  const sham = new SealedRoom(forged.connect(9), { room: "red", user: 9, identity: server, store: memory() });
  await once(sham, "ready");
  forged.keys.set(2, ben.identity.publicKey);
  await sham.say("x");
  const { epoch, boxes } = forged.epochs[0];
  boxes[0].to = ann.identity.fingerprint;
  for (const key of [ann.identity.publicKey, server.publicKey]) {
    ben.socket.hear({ type: "keys.epoch", epoch, boxes, maker: { user: { id: 1, name: "user 1" }, key } });
  }
  await ben.hears(2);
  assert.deepEqual(ben.codes, ["bad_room_key", "key_changed"]);
  assert.equal(relay.epochs.length, 0);
});

test("a room key by nobody who was ever a member opens no message, in whose name it may be", async () => {
  const { relay, ann, ben } = await two(), server = await Identity.open(99, { store: memory() });
  const forged = new Relay(), socket = forged.connect(99), { request } = socket;
  forged.keys.set(2, ben.identity.publicKey);
  const sham = new SealedRoom(socket, { room: "red", user: 99, identity: server, store: memory() });
  await sham.say("to make a room key");
  const { boxes, maker } = forged.epochs[0];
  server.fingerprint = ann.identity.fingerprint;
  socket.request = async () => { throw new Error("so that the next has another stream"); };
  await assert.rejects(sham.say("x"));
  socket.request = request;
  await sham.say("I am Ann");
  const lie = { epoch: 1, maker, boxes: [...boxes.filter(({ to }) => to === ben.identity.fingerprint)] };
  lie.boxes.push({ to: ann.identity.fingerprint, box: boxes[0].box });
  relay.epochs.push(lie);
  ben.socket.hear({ type: "keys.epoch", ...lie });
  ben.socket.hear({ ...forged.relayed.findLast(isSaid), user: { id: 1, name: "user 1" } });
  await ben.hears(2);
  assert.deepEqual([ben.texts, ben.codes], [[], ["unknown_member", "unknown_member"]]);
});

test("whoever can open a room key is shown, also when nothing was heard of them before", async () => {
  const { relay, ann, ben } = await two(), cleo = await Identity.open(3, { store: memory() });
  relay.keys.set(3, cleo.publicKey);
  await ben.room.say("for three");
  await ann.hears(1);
  assert.deepEqual(ann.room.members.map(({ fingerprint }) => fingerprint).sort(), [
    ann.identity.fingerprint, ben.identity.fingerprint, cleo.fingerprint,
  ].sort());
  assert.deepEqual([ann.texts, ann.codes], [["for three"], []]);
});

test("a room key for somebody whom the server does not show is not spoken with", async () => {
  const { relay, ann, ben } = await two(), spy = await Identity.open(3, { store: memory() });
  relay.keys.set(3, spy.publicKey);
  const isShown = ({ user }) => user.id !== 3;
  relay.bend = (frame, id) => id === 1 && frame.members ? [{ ...frame, members: frame.members.filter(isShown) }] : [frame];
  await ben.room.say("for three");
  await ann.hears(1);
  await assert.rejects(ann.room.say("secret"), (error) => error.code === "stale");
  assert.equal(relay.relayed.filter(isSaid).length, 1);
});

test("a key that comes while a room key is being made is given none", async () => {
  const { relay, ann, ben } = await two(), server = await Identity.open(9, { store: memory() });
  const { request } = ann.socket, rotations = [], { deriveBits } = crypto.subtle;
  ann.socket.request = (message) => {
    if (message.type === "keys.rotate") rotations.push(message.boxes.map(({ to }) => to));
    return request.call(ann.socket, message);
  };
  crypto.subtle.deriveBits = async (...facts) => {
    delete crypto.subtle.deriveBits;
    ann.socket.hear({ type: "keys.changed", user: { id: 2, name: "user 2" }, key: server.publicKey });
    await ann.until(() => ann.keychanges.length === 1);
    return deriveBits.apply(crypto.subtle, facts);
  };
  await assert.rejects(ann.room.say("secret"), (error) => error.code === "key_changed");
  assert.deepEqual(rotations, [[ann.identity.fingerprint, ben.identity.fingerprint]]);
});

test("a room key that comes while a message is being sealed does not put its number on the old one", async () => {
  const { relay, ann, ben } = await two(), { request } = ann.socket, { deriveKey } = crypto.subtle;
  await ann.room.say("1");
  ann.socket.request = async () => { throw new Error("so that the next has another stream"); };
  await assert.rejects(ann.room.say("x"));
  ann.socket.request = request;
  crypto.subtle.deriveKey = async (...facts) => {
    delete crypto.subtle.deriveKey;
    const cleo = await Person.enter(relay, 3);
    await cleo.room.say("2");
    await ann.hears(2);
    return deriveKey.apply(crypto.subtle, facts);
  };
  // A server that does not say that it was too late.
  relay.bend = (frame) => frame.type === "keys.stale" ? [{ type: "room.done" }] : [frame];
  await ann.room.say("too late");
  await ann.room.say("3");
  await ben.hears(3);
  assert.deepEqual([ben.texts, ben.codes], [["1", "2", "3"], []]);
});

test("it is no fault when a new room key overtakes what is said of the old one", async () => {
  const { relay, ann } = await two(), { request } = ann.socket, dan = await Identity.open(4, { store: memory() });
  await ann.room.say("1");
  relay.keys.set(4, dan.publicKey);
  ann.socket.request = async (message) => {
    const answer = await request.call(ann.socket, message);
    if (message.type !== "keys.fetch") return answer;
    ann.socket.request = request;
    const cleo = await Person.enter(relay, 3);
    await cleo.room.say("2");
    await ann.hears(2);
    return answer;
  };
  await ann.room.say("3");
  ann.socket.hear({ type: "keys.epoch", ...relay.epochs[0] });
  await ann.room.say("4");
  await ann.hears(4);
  assert.deepEqual([ann.texts, ann.codes, relay.epochs.length], [["1", "2", "3", "4"], [], 2]);
});

test("what one tab hears, another hears too, however late", async () => {
  const { relay, ann, ben } = await two(), second = await Person.enter(relay, 2, ben.store), held = [];
  second.socket.hear = (frame) => held.push(frame);
  await ann.room.say("1");
  await ben.hears(1);
  delete second.socket.hear;
  for (const frame of held) second.socket.hear(frame);
  await second.hears(1);
  assert.deepEqual([second.texts, second.codes], [["1"], []]);
});

test("a tab that was away does not let in again what another tab has heard", async () => {
  const { relay, ann, ben } = await two(), second = await Person.enter(relay, 2, ben.store);
  await ann.room.say("1");
  await second.hears(1);
  relay.sockets.delete(second.socket);
  await ann.room.say("2");
  await ben.hears(2);
  relay.sockets.add(second.socket);
  const again = await Person.enter(relay, 1, ann.store);
  await again.room.say("3");
  await second.hears(2);
  await ben.hears(3);
  const third = await Person.enter(relay, 2, ben.store);
  third.socket.hear(relay.relayed.filter(isSaid)[1]);
  await third.hears(1);
  assert.deepEqual([third.texts, third.codes], [[], ["replayed"]]);
});

test("nobody uses up the numbers of another's stream", async () => {
  const { relay, ann, ben } = await two(), mallory = await Person.enter(relay, 3);
  await ann.room.say("1");
  await ann.hears(1);
  const [stream] = relayedStreams(ann), { getRandomValues } = crypto;
  crypto.getRandomValues = (bytes) => {
    if (bytes.length !== 16) return getRandomValues.call(crypto, bytes);
    delete crypto.getRandomValues;
    bytes.set(Buffer.from(stream, "base64url"));
    return bytes;
  };
  for (const text of ["a", "b", "c"]) await mallory.room.say(text);
  await ann.room.say("2");
  await ben.hears(5);
  assert.deepEqual(new Set(relayedStreams(ann)).size, 1);
  assert.deepEqual([ben.texts, ben.codes], [["1", "a", "b", "c", "2"], []]);
});

test("a message with a room key of long ago is not taken, since whoever has left may have made it", async () => {
  const { relay, ann, ben } = await two();
  relay.bend = (frame, id) => isSaid(frame) && id === 2 ? [] : [frame];
  await ann.room.say("1");
  relay.bend = (frame) => [frame];
  for (const id of [3, 4]) {
    await Person.enter(relay, id);
    await ann.room.say(`${id}`);
  }
  await ben.hears(2);
  ben.socket.hear(relay.relayed.find(isSaid));
  await ben.hears(3);
  assert.deepEqual([ben.texts, ben.codes], [["3", "4"], ["replayed"]]);
  assert.equal((await ben.room.read(relay.relayed.find(isSaid))).text, "1");
  const seen = JSON.stringify(ben.store.kept.get('["seen","2","red"]'));
  assert.deepEqual(Object.keys(JSON.parse(seen)), ["2", "3"], "and older counters are forgotten");
});

test("the key that is accepted is the one that was compared, and not what came meanwhile", async () => {
  const { ann, ben } = await two(), server = await Identity.open(9, { store: memory() });
  ann.socket.hear({ type: "keys.changed", user: { id: 2, name: "user 2" }, key: server.publicKey });
  await ann.until(() => ann.keychanges.length === 1);
  const compared = { fingerprint: ben.identity.fingerprint, verified: true };
  await assert.rejects(ann.room.accept(2, compared), (error) => error.code === "key_changed");
  assert.ok(ann.room.members.every(({ user, verified }) => user.id !== 2 || !verified));
  await assert.rejects(ann.room.accept(7, compared), (error) => error.code === "unknown_member");
});

test("a room that could not be entered is entered when something is said", async () => {
  const relay = new Relay();
  let refused = 0;
  relay.bend = (frame) => {
    if (frame.type === "keys.state" && !refused++) throw new Error("rate_limited");
    return [frame];
  };
  const ann = await Person.enter(relay, 1);
  assert.deepEqual(ann.errors.map(({ message }) => message), ["rate_limited"]);
  await ann.room.say("x");
  await ann.until(() => ann.texts.length === 1);
});

test("a substituted key is noticed, and nothing is said until somebody accepts it", async () => {
  const { relay, ann, ben } = await two(), server = await Identity.open(9, { store: memory() });
  await ann.room.accept(2, { fingerprint: ben.identity.fingerprint, verified: true });
  await ann.room.say("before");
  relay.keys.set(2, server.publicKey);
  await assert.rejects(ann.room.say("secret"), (error) => error.code === "key_changed" && error.users[0].id === 2);
  assert.equal(relay.relayed.filter(isSaid).length, 1);
  assert.equal(relay.epochs.length, 1);
  const [change] = ann.keychanges;
  assert.deepEqual([change.before, change.after], [ben.identity.fingerprint, server.fingerprint]);
  assert.equal(change.wasVerified, true);
  const marks = ann.room.members.map(({ verified, changed }) => [verified, changed]);
  assert.deepEqual(marks, [[true, false], [false, true]]);
  await ann.room.accept(2, { fingerprint: server.fingerprint });
  await ann.room.say("after");
  assert.deepEqual(relay.epochs.at(-1).boxes.length, 2);
  assert.equal(ann.keychanges.length, 1);
});

test("the server's word that all is in line does not make a substituted key good", async () => {
  const { relay, ann } = await two(), server = await Identity.open(9, { store: memory() });
  await ann.room.say("before");
  const [honest, other] = relay.members, members = [honest, { ...other, key: server.publicKey }];
  relay.bend = (frame) => frame.type === "keys.state" ? [{ ...frame, in_line: true, members }] : [frame];
  relay.leave(2);
  await assert.rejects(ann.room.say("secret"), (error) => error.code === "key_changed");
  assert.equal(relay.relayed.filter(isSaid).length, 1);
});

test("an older room key than was seen is refused, also after the page was loaded anew", async () => {
  const { relay, ann, ben } = await two();
  await ann.room.say("before");
  relay.leave(2);
  await ann.room.say("after");
  relay.epochs.pop();
  relay.keys.set(2, ben.identity.publicKey);
  const again = await Person.enter(relay, 1, ann.store);
  assert.deepEqual(again.codes, ["rolled_back"]);
  await assert.rejects(again.room.say("secret"), (error) => error.code === "rolled_back");
  await again.room.forget();
  await again.room.say("anew");
});

test("a room key whose maker has another key now is read with, but not spoken with", async () => {
  const { relay, ann, ben } = await two();
  await ben.room.say("made by ben");
  await ann.hears(1);
  const fresh = await Person.enter(relay, 2, memory());
  assert.deepEqual(fresh.codes, ["key_elsewhere"]);
  await fresh.room.takeOver();
  await ann.until(() => ann.keychanges.length === 1);
  await assert.rejects(ann.room.say("x"), (error) => error.code === "key_changed");
  await ann.room.accept(2, { fingerprint: fresh.identity.fingerprint });
  const old = relay.relayed.find(isSaid), again = await Person.enter(relay, 1, ann.store);
  for (const { room } of [ann, again]) assert.equal((await room.read(old)).text, "made by ben");
  again.room.close();
  await ann.room.say("x");
  assert.equal(relay.epochs.length, 2);
  await fresh.until(() => fresh.heard.length === 1);
  assert.deepEqual(fresh.texts, ["x"]);
});

test("a second browser does not shut out the first by itself, and says so when it does", async () => {
  const { relay, ann, ben } = await two(), second = await Person.enter(relay, 1);
  assert.deepEqual(second.codes, ["key_elsewhere"]);
  await assert.rejects(second.room.say("x"), (error) => error.code === "key_elsewhere");
  assert.deepEqual(second.socket.asked, ["keys.publish", "keys.fetch"], "nothing more is asked until it is decided");
  assert.equal(relay.keys.get(1), ann.identity.publicKey);
  await second.room.takeOver();
  await ann.until(() => ann.codes.includes("key_elsewhere"));
  assert.equal(ben.room.members.length, 2);
  await second.room.say("x");
});

test("one's own key that the server exchanges is noticed", async () => {
  const { relay, ann } = await two(), server = await Identity.open(9, { store: memory() });
  const [own, other] = relay.members, members = [{ ...own, key: server.publicKey }, other];
  relay.bend = (frame) => frame.type === "keys.state" ? [{ ...frame, members }] : [frame];
  const again = await Person.enter(relay, 1, ann.store);
  assert.deepEqual(again.codes, ["key_elsewhere"]);
  await assert.rejects(again.room.say("secret"), (error) => error.code === "key_elsewhere");
});

test("nobody passes off another's key as their own", async () => {
  const { relay, ann } = await two();
  relay.keys.set(3, ann.identity.publicKey);
  const again = await Person.enter(relay, 1, ann.store);
  assert.deepEqual(again.codes, ["bad_key"]);
});

test("a refused message leaves no gap behind", async () => {
  const { relay, ann, ben } = await two();
  await ann.room.say("1");
  const request = ann.socket.request;
  ann.socket.request = async () => { throw new Error("rate_limited"); };
  await assert.rejects(ann.room.say("2"), /rate_limited/);
  ann.socket.request = request;
  await ann.room.say("3");
  await ben.hears(2);
  assert.deepEqual(ben.heard.map(({ text, missing }) => [text, missing]), [["1", null], ["3", null]]);
  assert.equal(new Set(relayedStreams(ann)).size, 2);
});
