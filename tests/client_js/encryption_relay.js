// A server of sealed rooms for one test, honest unless a test bends it; and a store that forgets nothing.

export function memory() {
  const kept = new Map();
  return {
    kept,
    get: async (key) => kept.get(key),
    put: async (key, value) => void kept.set(key, structuredClone(value)),
    async update(key, change) {
      const value = change(kept.get(key));
      kept.set(key, value);
      return value;
    },
  };
}

export class Relay {
  keys = new Map(); // by user
  epochs = [];
  sockets = new Set();
  relayed = [];
  // What a test may bend: it gets each frame for a user and answers what is delivered instead, perhaps nothing.
  bend = (frame) => [frame];

  get members() {
    return Array.from(this.keys, ([id, key]) => ({ user: { id, name: `user ${id}` }, key }));
  }

  connect(id) {
    const socket = new RelaySocket(this, id);
    this.sockets.add(socket);
    return socket;
  }

  leave(id) {
    this.keys.delete(id);
    for (const socket of this.sockets) if (socket.id === id) this.sockets.delete(socket);
  }

  // As `keyring.Standing.in_line`: the fingerprints of the boxes are those of the members.
  async inLine(fingerprintOf) {
    const wanted = await Promise.all([...this.keys.values()].map(fingerprintOf)), last = this.epochs.at(-1);
    return !!last && last.boxes.length === wanted.length && last.boxes.every(({ to }) => wanted.includes(to));
  }

  tell(frame) {
    this.relayed.push(structuredClone(frame));
    for (const socket of this.sockets) socket.hear(frame);
  }
}

class RelaySocket {
  state = "open";
  asked = [];
  #handlers = { message: new Set(), open: new Set() };

  constructor(relay, id) {
    this.relay = relay;
    this.id = id;
  }

  on(name, handler) {
    this.#handlers[name].add(handler);
    return () => this.#handlers[name].delete(handler);
  }

  hear(frame) {
    for (const bent of this.relay.bend(frame, this.id)) {
      for (const handler of this.#handlers.message) handler(structuredClone(bent));
    }
  }

  async request(message) {
    this.asked.push(message.type);
    const answer = await this.#answer(structuredClone(message));
    const [bent] = this.relay.bend(answer, this.id);
    return structuredClone(bent);
  }

  async #answer({ type, ...facts }) {
    const { fingerprintOf } = await import("../../channels_secure/static/channels_secure/encryption.js");
    const { relay, id } = this, user = { id, name: `user ${id}` };
    if (type === "keys.publish") {
      const known = relay.keys.get(id);
      if (known && known !== facts.key && !facts.replace) return { type: "keys.published", key: known };
      relay.keys.set(id, facts.key);
      if (known !== facts.key) relay.tell({ type: "keys.changed", user, key: facts.key });
      return { type: "keys.published", key: facts.key };
    }
    if (type === "keys.fetch") {
      const number = facts.epoch ?? relay.epochs.length, epoch = relay.epochs[number - 1];
      const own = await fingerprintOf(relay.keys.get(id)), box = epoch?.boxes.find(({ to }) => to === own)?.box;
      const { members } = relay, in_line = await relay.inLine(fingerprintOf);
      return { type: "keys.state", epoch: number, members, in_line, maker: epoch?.maker ?? null, box: box ?? null };
    }
    if (type === "keys.rotate") {
      const wanted = await Promise.all([...relay.keys.values()].map(fingerprintOf));
      const fits = facts.boxes.length === wanted.length && facts.boxes.every(({ to }) => wanted.includes(to));
      if (facts.epoch !== relay.epochs.length + 1 || !fits) return { type: "keys.stale", epoch: relay.epochs.length };
      const begun = { epoch: facts.epoch, maker: { user, key: relay.keys.get(id) }, boxes: facts.boxes };
      relay.epochs.push(begun);
      relay.tell({ type: "keys.epoch", ...begun });
      return { type: "keys.rotated", epoch: facts.epoch };
    }
    if (!await relay.inLine(fingerprintOf) || facts.sealed.epoch !== relay.epochs.length) {
      return { type: "keys.stale", epoch: relay.epochs.length };
    }
    relay.tell({ type: "room.said", id: `m${relay.relayed.length}`, user, at: "2026-01-01T00:00:00Z", ...facts });
    return { type: "room.done" };
  }
}
