// Encryption for channels_secure in the browser, by WebCrypto alone: Fernet frames, and rooms sealed end to end.
// What it protects against, and what not, stands in docs/explanation/encryption.md. Types: encryption.d.ts.

const { subtle } = globalThis.crypto;
const utf8 = new TextEncoder();
const fatal = new TextDecoder("utf-8", { fatal: true });
const NAME = "channels_secure/1";
const CURVE = { name: "ECDH", namedCurve: "P-256" };
const SALT = 32, NONCE = 12, SECRET = 32, POINT = 65, STREAM = 16;
const ATTEMPTS = 5, KEPT_KEYS = 8;

export class EncryptionError extends Error {
  name = "EncryptionError";

  /** @param {string} code @param {string} message */
  constructor(code, message, more = {}) {
    super(message);
    this.code = code;
    Object.assign(this, more);
  }
}

const unreadable = () => new EncryptionError("unreadable", "The frame cannot be decrypted.");

/** @param {number} length */
const randomBytes = (length) => crypto.getRandomValues(new Uint8Array(length));

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

/** @param {...Bytes} parts */
function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Bytes} bytes */
function toBase64(bytes) {
  let text = "";
  // One call for all would overflow the stack.
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_");
}

/** @param {Bytes} bytes */
const toUnpadded = (bytes) => toBase64(bytes).replaceAll("=", "");

/** @param {string} text */
function fromBase64(text) {
  // `atob` takes spaces, too.
  if (!/^[A-Za-z0-9_-]*={0,2}$/.test(text)) throw unreadable();
  try {
    const bytes = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(bytes, (character) => character.charCodeAt(0));
  } catch {
    throw unreadable();
  }
}

/** @param {Bytes} bytes */
const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

// Fernet --------------------------------------------------------------------------------------------------------------

const VERSION = 0x80, HEADER = 25, BLOCK = 16, MAC = 32, MAX_SKEW = 60;

/** @param {string | string[]} keys @param {import("./encryption.js").FernetOptions} options */
export async function fernet(keys, options = {}) {
  const { ttl = 60, clock = now, random = randomBytes } = options;
  const pairs = await Promise.all([keys].flat().map(keyPair));
  if (!pairs.length) throw new TypeError("fernet() needs a key.");
  return {
    /** @param {string} text */
    async encode(text) {
      const [signing, encrypting] = pairs[0], iv = random(BLOCK), head = new Uint8Array(9);
      head[0] = VERSION;
      new DataView(head.buffer).setBigUint64(1, BigInt(Math.floor(clock())));
      const body = new Uint8Array(await subtle.encrypt({ name: "AES-CBC", iv }, encrypting, utf8.encode(text)));
      const signed = joined(head, iv, body);
      return toBase64(joined(signed, new Uint8Array(await subtle.sign("HMAC", signing, signed))));
    },
    /** @param {string} frame */
    async decode(frame) {
      const token = fromBase64(String(frame)), end = token.length - MAC;
      if (token[0] !== VERSION || end < HEADER + BLOCK || (end - HEADER) % BLOCK || toBase64(token) !== frame) {
        throw unreadable();
      }
      const made = Number(new DataView(token.buffer).getBigUint64(1)), time = Math.floor(clock());
      if (ttl !== null && (made + ttl < time || made > time + MAX_SKEW)) throw unreadable();
      const iv = token.subarray(9, HEADER), signed = token.subarray(0, end);
      for (const [signing, encrypting] of pairs) {
        if (!await subtle.verify("HMAC", signing, token.subarray(end), signed)) continue;
        try {
          return fatal.decode(await subtle.decrypt({ name: "AES-CBC", iv }, encrypting, token.subarray(HEADER, end)));
        } catch {
          throw unreadable();
        }
      }
      throw unreadable();
    },
  };
}

const now = () => Date.now() / 1000;

/** @param {string} key @returns {Promise<[CryptoKey, CryptoKey]>} */
async function keyPair(key) {
  let bytes = new Uint8Array();
  try {
    bytes = fromBase64(key);
  } catch {
    // Said below, without the key.
  }
  if (bytes.length !== 32) throw new TypeError("A Fernet key is 32 bytes in URL-safe base64.");
  return Promise.all([
    subtle.importKey("raw", bytes.subarray(0, 16), { name: "HMAC", hash: "SHA-256" }, false, ["sign", "verify"]),
    subtle.importKey("raw", bytes.subarray(16), "AES-CBC", false, ["encrypt", "decrypt"]),
  ]);
}

// What the browser keeps ----------------------------------------------------------------------------------------------

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const result = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

/** @param {...(string | number)} parts a name that no other parts give */
const slot = (...parts) => JSON.stringify(parts.map(String));

export function browserStore(name = "channels_secure") {
  /** @type {Promise<IDBDatabase> | undefined} */ let opening;
  const open = () => {
    opening ??= (() => {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore("kept");
      return result(request);
    })();
    return opening;
  };
  /** @param {IDBTransactionMode} mode */
  const kept = async (mode) => (await open()).transaction("kept", mode).objectStore("kept");
  return {
    /** @param {string} key */
    get: async (key) => result((await kept("readonly")).get(key)),
    /** @param {string} key @param {any} value */
    put: async (key, value) => { await result((await kept("readwrite")).put(value, key)); },
    /** @param {string} key @param {(before: any) => any} change */
    async update(key, change) {
      // In one transaction: two tabs that write at once undo nothing of each other's.
      const store = await kept("readwrite"), value = change(await result(store.get(key)));
      await result(store.put(value, key));
      return value;
    },
  };
}

/** @param {string} key */
export async function fingerprintOf(key) {
  const bytes = fromBase64(key);
  if (bytes.length !== POINT || toUnpadded(bytes) !== key) throw new EncryptionError("bad_key", "No public key.");
  return toHex(new Uint8Array(await subtle.digest("SHA-256", bytes)));
}

/** @param {string} fingerprint */
export const spoken = (fingerprint) => fingerprint.slice(0, 32).match(/.{4}/g)?.join(" ") ?? "";

export class Identity {
  /** @param {string} publicKey @param {string} fingerprint @param {CryptoKey} privateKey */
  constructor(publicKey, fingerprint, privateKey) {
    this.publicKey = publicKey;
    this.fingerprint = fingerprint;
    this.privateKey = privateKey;
  }

  /** @param {string | number} user */
  static async open(user, { store = /** @type {import("./encryption.js").Store} */ (browserStore()) } = {}) {
    const name = slot("identity", user);
    let pair = await store.get(name);
    if (!pair) {
      const { publicKey, privateKey } = await subtle.generateKey(CURVE, false, ["deriveBits"]);
      const raw = new Uint8Array(await subtle.exportKey("raw", publicKey));
      const made = { publicKey: toUnpadded(raw), privateKey };
      // Of two tabs that begin at once, both get the key of the first.
      pair = await store.update(name, (known) => known ?? made);
    }
    return new Identity(pair.publicKey, await fingerprintOf(pair.publicKey), pair.privateKey);
  }
}

// Room keys and messages ----------------------------------------------------------------------------------------------

/** @param {...(string | number)} parts what both sides must agree on, so that nothing fits anywhere else */
const context = (...parts) => utf8.encode(JSON.stringify([NAME, ...parts]));

/** @param {BufferSource} secret @param {Bytes} salt @param {Bytes} info */
async function derived(secret, salt, info) {
  const key = await subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  return deriveFrom(key, salt, info);
}

/** @param {CryptoKey} key @param {Bytes} salt @param {Bytes} info */
const deriveFrom = (key, salt, info) => subtle.deriveKey(
  { name: "HKDF", hash: "SHA-256", salt, info }, key, { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"],
);

/** @param {Identity} identity @param {string} theirKey @param {Bytes} salt @param {Bytes} about */
async function sharedKey(identity, theirKey, salt, about) {
  // Importing checks that the point is on the curve.
  const point = await subtle.importKey("raw", fromBase64(theirKey), CURVE, false, []);
  const shared = await subtle.deriveBits({ name: "ECDH", public: point }, identity.privateKey, 256);
  return derived(shared, salt, about);
}

/** @param {Identity} identity @param {string} theirKey @param {Bytes} about @param {Bytes} secret */
async function wrap(identity, theirKey, about, secret) {
  const salt = randomBytes(SALT), iv = randomBytes(NONCE), key = await sharedKey(identity, theirKey, salt, about);
  const box = await subtle.encrypt({ name: "AES-GCM", iv, additionalData: about }, key, secret);
  return toUnpadded(joined(salt, iv, new Uint8Array(box)));
}

/** @param {Identity} identity @param {string} theirKey @param {Bytes} about @param {string} box */
async function unwrap(identity, theirKey, about, box) {
  const bytes = fromBase64(box), iv = bytes.subarray(SALT, SALT + NONCE);
  try {
    const key = await sharedKey(identity, theirKey, bytes.subarray(0, SALT), about);
    const sealed = bytes.subarray(SALT + NONCE);
    const secret = await subtle.decrypt({ name: "AES-GCM", iv, additionalData: about }, key, sealed);
    return await subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]);
  } catch {
    throw new EncryptionError("bad_room_key", "The room key cannot be opened.");
  }
}

/** @param {number} n a nonce that is never used twice: each stream has a key of its own, and counts */
function counted(n) {
  const nonce = new Uint8Array(NONCE);
  new DataView(nonce.buffer).setBigUint64(4, BigInt(n));
  return nonce;
}

/** One sealed room on one socket: it sees to the keys, seals what is said and opens what is heard. */
export class SealedRoom extends EventTarget {
  #socket;
  #room;
  #user;
  #identity;
  #store;
  /** @type {Map<number, CryptoKey>} */ #keys = new Map();
  /** @type {Map<number, string>} */ #makers = new Map();
  /** @type {Map<number, string[]>} */ #holders = new Map();
  /** @type {Map<string, any>} */ #members = new Map();
  /** @type {Promise<Record<string, Record<string, number>>>} */ #seen;
  /** @type {any} */ #stream;
  #latest = 0;
  #inLine = false;
  #entered = Promise.resolve();
  #hearing = Promise.resolve();
  /** @type {Promise<any>} */ #saying = Promise.resolve();
  /** @type {(() => void)[]} */ #listening;

  /** @param {any} socket @param {import("./encryption.js").RoomOptions} options */
  constructor(socket, { room, user, identity, store = browserStore() }) {
    super();
    this.#socket = socket;
    this.#room = room;
    this.#user = String(user);
    this.#identity = identity;
    this.#store = store;
    // Asked once: what another tab hears from now on is new to this one.
    this.#seen = store.get(this.#name("seen")).then((/** @type {any} */ seen) => structuredClone(seen ?? {}));
    this.#seen.catch((error) => this.#fail(error));
    this.#listening = [
      socket.on("message", (/** @type {any} */ frame) => this.#hear(frame)),
      socket.on("open", () => void this.#enter()),
    ];
    if (socket.state === "open") this.#enter();
  }

  get members() {
    return [...this.#members.values()].map((member) => ({ ...member }));
  }

  /** @param {string} name @param {(detail: any) => void} handler */
  on(name, handler) {
    const listener = (/** @type {any} */ event) => handler(event.detail);
    this.addEventListener(name, listener);
    return () => this.removeEventListener(name, listener);
  }

  close() {
    for (const stop of this.#listening) stop();
  }

  /** @param {string} text @returns {Promise<any>} */
  say(text) {
    // One after the other, so that the counter and the order on the wire agree.
    return this.#saying = this.#saying.catch(() => {}).then(() => this.#say(text));
  }

  /** @param {string | number} user @param {{fingerprint: string, verified?: boolean}} key */
  async accept(user, { fingerprint, verified = false }) {
    const member = this.#members.get(String(user));
    if (!member) throw new EncryptionError("unknown_member", "There is no such member with a key.");
    if (member.fingerprint !== fingerprint) {
      throw new EncryptionError("key_changed", "It is another key than the one that was compared.", { user: member.user });
    }
    const pin = await this.#pinned(user) ?? {};
    const former = [pin.fingerprint, ...pin.former ?? []].filter((one) => one && one !== fingerprint);
    await this.#pin(user, { fingerprint, former: former.slice(0, KEPT_KEYS), verified });
    await (this.#entered = this.#fetch());
  }

  takeOver() {
    return this.#enter(true);
  }

  async forget() {
    await this.#store.put(this.#name("epoch"), this.#latest = 0);
    this.#keys.clear();
    this.#makers.clear();
    this.#holders.clear();
    await this.#enter();
  }

  /** @param {any} said @returns {Promise<any>} */
  async read(said) {
    return (await this.#read(said)).message;
  }

  /** @param {any} said @returns {Promise<{message: any, sender: string}>} */
  async #read(said) {
    const { epoch, stream, n, box } = said.sealed, pin = await this.#pinned(said.user.id);
    if (![epoch, n].every(Number.isSafeInteger)) throw unreadable();
    const member = this.#members.get(String(said.user.id)), roomKey = await this.#keyOf(epoch);
    for (const sender of new Set([member?.fingerprint, pin?.fingerprint, ...pin?.former ?? []])) {
      if (!sender) continue;
      const key = await deriveFrom(roomKey, fromBase64(stream), this.#streamContext(epoch, sender));
      const additionalData = this.#messageContext(epoch, sender, stream, n);
      try {
        const plain = await subtle.decrypt({ name: "AES-GCM", iv: counted(n), additionalData }, key, fromBase64(box));
        const { text, at } = JSON.parse(fatal.decode(plain)), isPinned = sender === pin?.fingerprint;
        const { id, user } = said, verified = isPinned && !!pin.verified;
        const message = { id, user, at: said.at, text: String(text), sentAt: new Date(at), verified };
        return { message: { ...message, changed: !isPinned }, sender };
      } catch {
        // Perhaps with the key that they had before.
      }
    }
    throw unreadable();
  }

  // Keys

  /** @param {string} what */
  #name(what) {
    return slot(what, this.#user, this.#room);
  }

  #enter(replace = false) {
    this.#entered = this.#publish(replace).then(() => this.#fetch()).then(() => this.#emit("ready", this.members));
    this.#entered.catch((error) => this.#fail(error));
    return this.#entered;
  }

  /** @param {boolean} replace */
  async #publish(replace) {
    // Where another key stays in force, it is seen among those of the members.
    await this.#socket.request({ type: "keys.publish", key: this.#identity.publicKey, replace });
  }

  #elsewhere() {
    return new EncryptionError("key_elsewhere", "Another browser has the key in force; takeOver() replaces it.");
  }

  /** @returns {Promise<void>} */
  async #fetch() {
    const newest = await this.#newest(), state = await this.#socket.request({ type: "keys.fetch" });
    await this.#look(state.members);
    // Whoever has left since may have an older room key.
    if (state.epoch < newest) throw new EncryptionError("rolled_back", "The server offers a room key that was replaced.");
    // The next was heard of while this was on its way.
    if (state.epoch < this.#latest) return this.#fetch();
    this.#inLine = state.in_line;
    await this.#rise(state.epoch);
    // Of somebody who is gone nothing is taken to speak with, and without it one can still make the next.
    if (!state.box || !this.#members.has(String(state.maker.user.id))) return;
    await this.#adopt(state.epoch, state.maker, state.box).catch((error) => this.#fail(error));
  }

  /** @param {any[]} holders */
  async #look(holders) {
    const known = new Map();
    for (const { user, key } of holders) known.set(String(user.id), await this.#known(user, key));
    this.#members = known;
    this.#emit("members", this.members);
    if (known.get(this.#user)?.key !== this.#identity.publicKey) throw this.#elsewhere();
  }

  /** @param {any} user @param {string} key */
  async #known(user, key) {
    const fingerprint = await fingerprintOf(key);
    if (key === this.#identity.publicKey) {
      if (String(user.id) !== this.#user) throw new EncryptionError("bad_key", "A member shows our key.", { user });
      await this.#pin(user.id, { fingerprint, verified: true });
    }
    const before = await this.#pinned(user.id);
    if (!before) await this.#pin(user.id, { fingerprint, verified: false });
    const changed = !!before && before.fingerprint !== fingerprint;
    const verified = !changed && !!before?.verified, seen = this.#members.get(String(user.id));
    if (changed && seen?.fingerprint !== fingerprint) {
      this.#emit("keychange", { user, before: before.fingerprint, after: fingerprint, wasVerified: before.verified });
    }
    return { user, key, fingerprint, verified, changed };
  }

  /** @param {string | number} user */
  #pinned(user) {
    return this.#store.get(slot("peer", this.#user, user));
  }

  /** @param {string | number} user @param {any} pin */
  #pin(user, pin) {
    return this.#store.put(slot("peer", this.#user, user), pin);
  }

  /** The newest room key that any tab of this browser has heard of. */
  async #newest() {
    return Math.max(this.#latest, await this.#store.get(this.#name("epoch")) ?? 0);
  }

  /** @param {number} epoch */
  async #rise(epoch) {
    this.#latest = Math.max(this.#latest, epoch);
    await this.#store.update(this.#name("epoch"), (kept = 0) => Math.max(kept, epoch));
  }

  /** @param {number} epoch @param {any} maker @param {string} box */
  async #adopt(epoch, maker, box) {
    if (this.#keys.has(epoch)) return;
    const { user, key } = maker, fingerprint = await fingerprintOf(key), pin = await this.#pinned(user.id);
    // Whoever makes a room key can write in everybody's name: nobody does who was never shown as a member.
    if (!pin) throw new EncryptionError("unknown_member", "The room key is by nobody who was seen here.", { user });
    if (![pin.fingerprint, ...pin.former ?? []].includes(fingerprint)) {
      throw new EncryptionError("key_changed", "Whoever made the room key has another public key now.", { user });
    }
    this.#keys.set(epoch, await unwrap(this.#identity, key, this.#wrapContext(epoch, fingerprint), box));
    this.#makers.set(epoch, fingerprint);
  }

  /** @param {number} epoch */
  async #keyOf(epoch) {
    if (!this.#keys.has(epoch)) {
      const state = await this.#socket.request({ type: "keys.fetch", epoch });
      if (state.epoch === epoch && state.box) {
        await this.#look(state.members);
        await this.#adopt(epoch, state.maker, state.box);
      }
    }
    const key = this.#keys.get(epoch);
    if (!key) throw new EncryptionError("no_room_key", "This was sealed when one had no key here.");
    return key;
  }

  /** @param {number} epoch @param {string} maker @param {string} holder */
  #wrapContext(epoch, maker, holder = this.#identity.fingerprint) {
    return context("room key", this.#room, epoch, maker, holder);
  }

  /** @param {number} epoch @param {string} sender */
  #streamContext(epoch, sender) {
    return context("stream", this.#room, epoch, sender);
  }

  /** @param {number} epoch @param {string} sender @param {string} stream @param {number} n */
  #messageContext(epoch, sender, stream, n) {
    return context("message", this.#room, epoch, sender, stream, n);
  }

  async #rotate() {
    // As they are now: a key that another one takes the place of meanwhile gets no room key.
    const { members } = this, changed = members.filter((member) => member.changed);
    if (changed.length) {
      const users = changed.map((member) => member.user);
      throw new EncryptionError("key_changed", "Members have other public keys: compare, then accept().", { users });
    }
    const epoch = this.#latest + 1, secret = randomBytes(SECRET), boxes = new Map();
    for (const { key, fingerprint } of members) {
      const about = this.#wrapContext(epoch, this.#identity.fingerprint, fingerprint);
      boxes.set(fingerprint, await wrap(this.#identity, key, about, secret));
    }
    const listed = Array.from(boxes, ([to, box]) => ({ to, box }));
    const answer = await this.#socket.request({ type: "keys.rotate", epoch, boxes: listed });
    // Somebody else may have been faster, or somebody may have left meanwhile.
    if (answer.type !== "keys.rotated") return this.#fetch();
    await this.#rise(epoch);
    this.#keys.set(epoch, await subtle.importKey("raw", secret, "HKDF", false, ["deriveKey"]));
    this.#makers.set(epoch, this.#identity.fingerprint);
    this.#holders.set(epoch, [...boxes.keys()]);
    this.#inLine = true;
  }

  /** @param {number} epoch whether its room key, as far as is known here, was wrapped for exactly the members shown */
  #isForTheShown(epoch) {
    const to = new Set(this.#holders.get(epoch)), shown = new Set(this.members.map((member) => member.fingerprint));
    return !to.size || (to.size === shown.size && [...to].every((one) => shown.has(one)));
  }

  /** Whether the room key may be used to speak: a key that somebody has replaced may be in other hands by now. */
  get #isSound() {
    const maker = this.#makers.get(this.#latest), { members } = this;
    return this.#inLine && this.#isForTheShown(this.#latest) && members.some(({ fingerprint }) => fingerprint === maker) &&
      !members.some(({ changed }) => changed);
  }

  // Speaking

  /** @param {string} text */
  async #say(text) {
    // Once more, where it was the connection, or a limit; a decision is somebody's.
    await this.#entered.catch((error) => error instanceof EncryptionError ? Promise.reject(error) : this.#enter());
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (!this.#isSound) await this.#rotate();
      if (!this.#isSound) continue;
      const sealed = await this.#seal(text);
      try {
        const answer = await this.#socket.request({ type: "room.say", sealed });
        if (answer.type !== "keys.stale") return answer;
      } catch (error) {
        // Nobody may have heard it, and a number is never used twice: the others would miss it.
        this.#stream = undefined;
        throw error;
      }
      this.#stream = undefined;
      await this.#fetch();
    }
    throw new EncryptionError("stale", "The members change too fast.");
  }

  /** @param {string} text */
  async #seal(text) {
    const epoch = this.#latest, { fingerprint } = this.#identity;
    const key = /** @type {CryptoKey} */ (this.#keys.get(epoch));
    if (this.#stream?.roomKey !== key) {
      const name = randomBytes(STREAM), about = this.#streamContext(epoch, fingerprint);
      this.#stream = { roomKey: key, name: toUnpadded(name), n: 0, key: await deriveFrom(key, name, about) };
    }
    const n = ++this.#stream.n, { name: stream, key: streamKey } = this.#stream;
    const additionalData = this.#messageContext(epoch, fingerprint, stream, n);
    const plain = utf8.encode(JSON.stringify({ text, at: Date.now() }));
    const box = await subtle.encrypt({ name: "AES-GCM", iv: counted(n), additionalData }, streamKey, plain);
    return { epoch, stream, n, box: toUnpadded(new Uint8Array(box)) };
  }

  // Hearing

  /** @param {any} frame */
  #hear(frame) {
    this.#hearing = this.#hearing.then(() => this.#take(frame)).catch((error) => this.#fail(error, frame));
  }

  /** @param {any} frame */
  async #take(frame) {
    if (frame.type === "room.said" && frame.sealed) await this.#open(frame);
    else if (frame.type === "keys.changed") await this.#heardOfKey(frame);
    else if (frame.type === "keys.epoch") await this.#heardOfEpoch(frame);
  }

  /** @param {any} frame */
  async #heardOfEpoch({ epoch, maker, boxes }) {
    await this.#entered.catch(() => {});
    // The next may overtake it on its way here, or to another tab.
    if (epoch < await this.#newest()) return;
    this.#holders.set(epoch, boxes.map((/** @type {any} */ { to }) => to));
    // Whoever can open it is shown among the members, before anything is said with it.
    if (!this.#isForTheShown(epoch)) return this.#fetch();
    this.#inLine = true;
    await this.#rise(epoch);
    const own = boxes.find((/** @type {any} */ { to }) => to === this.#identity.fingerprint);
    if (own) await this.#adopt(epoch, maker, own.box);
  }

  /** @param {any} frame */
  async #heardOfKey({ user, key }) {
    if (String(user.id) === this.#user && key !== this.#identity.publicKey) throw this.#elsewhere();
    this.#inLine = false;
    this.#members.set(String(user.id), await this.#known(user, key));
    this.#emit("members", this.members);
  }

  /** @param {any} said */
  async #open(said) {
    await this.#entered.catch(() => {});
    // Whoever has joined since is not known yet.
    if (!this.#members.has(String(said.user.id))) await this.#fetch();
    const { message, sender } = await this.#read(said);
    this.#emit("message", { ...message, missing: await this.#count(said.sealed, sender) });
  }

  /** How many were kept back before it. @param {any} sealed @param {string} sender @returns {Promise<number | null>} */
  async #count({ epoch, stream, n }, sender) {
    // The sender stands in the name, or one could use up the numbers of another's stream.
    const seen = await this.#seen, name = slot(sender, stream), before = seen[epoch]?.[name];
    // One room key back may be on its way; an older one is known to whoever has left since.
    const isLate = (/** @type {number} */ old) => old < this.#latest - 1;
    if (isLate(epoch) || n <= (before ?? 0)) throw new EncryptionError("replayed", "A message came again or too late.");
    (seen[epoch] ??= {})[name] = n;
    for (const old of Object.keys(seen)) if (isLate(Number(old))) delete seen[old];
    await this.#store.update(this.#name("seen"), (/** @type {typeof seen} */ kept = {}) => {
      const recent = Object.fromEntries(Object.entries(kept).filter(([old]) => !isLate(Number(old))));
      return { ...recent, [epoch]: { ...recent[epoch], [name]: Math.max(n, recent[epoch]?.[name] ?? 0) } };
    });
    return before === undefined ? null : n - before - 1;
  }

  /** @param {any} error */
  #fail(error, frame = undefined) {
    this.#emit("error", { error, frame });
  }

  /** @param {string} name @param {any} detail */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
