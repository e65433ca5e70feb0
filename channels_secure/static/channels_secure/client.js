const DEFAULTS = {
  minDelay: 500, maxDelay: 20_000, timeout: 10_000, heartbeat: 25_000, maxQueue: 100, maxMessageSize: 65_536,
  pauseHidden: true, protocols: [], csrf: () => document.cookie.match(/csrftoken=(\w+)/)?.[1],
};
// From 3000 on, codes are decisions; these are not for good.
const RETRY = [4408, 4419, 4429, 4500, 4503, 4504, 4505];
// A server that goes takes everybody along.
const SHARED = [1001, 1012, 1013, 4505, "server_restart"];
// The server allows twenty messages a second, and a refresh every ten.
const PACE = 60, REFRESH_PACE = 10_000, STABLE = 5_000;
const MAX_BUFFERED = 1 << 20;
const SIGNS = ["online", "offline", "visibilitychange"];

export class SecureSocketError extends Error {
  code = "";
  reconnect = false;
  retry_after = 0;

  constructor(refusal) {
    super(refusal.message);
    Object.assign(this, refusal);
  }
}

const failure = (code, message) => new SecureSocketError({ code, message });

const offering = (work) => {
  try {
    return work();
  } catch {
    // The browser's own words would repeat the secret.
    throw failure("bad_request", "The credentials could not be sent.");
  }
};

export class SecureSocket extends EventTarget {
  /** @type {any} */ #state = "closed";
  /** @type {any} */ #socket;
  /** @type {any} */ #fatal;
  /** @type {any} */ #options;
  /** @type {any} */ #timers = {};
  #queue = new Map();
  #pending = new Map();
  #attempt = new AbortController();
  #outgoing = Promise.resolve();
  #url;
  #attempts = 0;
  #expired = 0;
  #spread = 0;
  #earliest = 0;

  constructor(url, options = {}) {
    super();
    this.#options = { getToken: options.token, ...DEFAULTS, ...options };
    this.#url = new URL(url, globalThis.location?.href);
    this.#url.protocol = this.#url.protocol.replace("http", "ws");
    this.connect();
  }

  get state() {
    return this.#state;
  }

  get queued() {
    return this.#queue.size;
  }

  on(name, handler) {
    const listener = (event) => handler(event.detail);
    this.addEventListener(name, listener);
    return () => this.removeEventListener(name, listener);
  }

  connect() {
    if (this.#state === "connecting" || this.#state === "open") return;
    for (const sign of SIGNS) globalThis.addEventListener?.(sign, this.#changed);
    this.#attempts = this.#expired = 0;
    this.#try();
  }

  close() {
    this.#stop("closed", failure("closed", "The connection is closed."));
  }

  send(message) {
    this.#submit(JSON.stringify(message));
  }

  /** @returns {Promise<any>} */
  request(message, { timeout = this.#options.timeout } = {}, isUrgent = false) {
    const id = `${Math.random()}`;
    return new Promise((resolve, reject) => {
      this.#submit(JSON.stringify({ ...message, id }), id, isUrgent);
      this.#pending.set(id, { resolve, reject });
      setTimeout(() => this.#settle(id, failure("timeout", "No answer came in time.")), timeout);
    });
  }

  async #try() {
    this.#drop();
    const { signal } = this.#attempt = new AbortController(), { protocols, timeout, heartbeat } = this.#options;
    this.#after("watch", timeout, () => this.#ended());
    this.#move("connecting");
    let socket;
    try {
      const secret = await this.#credentials(signal);
      if (signal.aborted) return;
      const offered = secret ? ["channels-secure.v1", `channels-secure.${secret}`] : [];
      this.#socket = socket = offering(() => new WebSocket(this.#url, [...protocols, ...offered]));
    } catch (cause) {
      if (signal.aborted) return;
      if (cause instanceof SecureSocketError) return this.#ended(cause);
      this.#fail("no_credentials", "No credentials came.", cause);
      return this.#ended();
    }
    let turn = this.#outgoing = Promise.resolve();
    const inTurn = (work) => turn = turn.then(() => signal.aborted || work());
    // Who is refused sees the socket open, too: the first other frame lets in.
    socket.onopen = () => inTurn(() => heartbeat ? this.#ping() : this.#opened(null));
    socket.onmessage = ({ data }) => inTurn(() => this.#heard(data, signal));
    socket.onclose = ({ code, reason }) => inTurn(() => this.#closed(code, reason));
  }

  async #credentials(signal) {
    const { ticket, token, csrf } = this.#options, isOwn = typeof ticket === "function";
    if (!ticket && !token) return "";
    const secret = await (isOwn ? ticket() : token?.({ refresh: false }));
    if (!secret && (isOwn || token)) throw failure("unauthenticated", "Log in to connect.");
    if (isOwn || !ticket) return `${isOwn ? "ticket" : "bearer"}.${secret}`;
    const proof = secret ? `Bearer ${secret}` : csrf();
    const response = await fetch(ticket, {
      method: "POST",
      headers: offering(() => new Headers({ [secret ? "Authorization" : "X-CSRFToken"]: proof })),
      body: new URLSearchParams({ path: this.#url.pathname }),
      redirect: "manual",
      signal,
    });
    const { status } = response, answer = await response.json().catch(() => ({}));
    if (answer.ticket) return `ticket.${answer.ticket}`;
    answer.code ??= `http_${status}`;
    throw new SecureSocketError({ message: "No ticket came.", reconnect: status >= 429, ...answer });
  }

  async #heard(data, signal) {
    const { codec, getToken } = this.#options, isOpen = this.#state === "open";
    // Before the server knows who is there, it refuses in plain JSON.
    const isCoded = codec && (isOpen || data[0] !== "{");
    let frame;
    try {
      frame = JSON.parse(isCoded ? await codec.decode(data) : data);
    } catch (cause) {
      return this.#fail("bad_frame", "A frame could not be read.", cause);
    }
    if (signal.aborted) return;
    const { type, ref, fatal } = frame ?? {};
    if (type === "error" && fatal) this.#fatal = frame;
    if (this.#fatal || (codec && !isCoded)) return;
    if (isOpen) this.#alive();
    else this.#opened(type === "hello" ? frame : null);
    if (signal.aborted) return;
    if (type === "ping") this.#transmit('{"type":"pong"}');
    else if (type === "token_expiring" && getToken) {
      this.#after("refresh", Math.min(frame.expires_in * 500, REFRESH_PACE), () => this.#refresh());
    } else if (!this.#settle(ref, frame) && type !== "pong" && type !== "hello") {
      this.#emit(type === "error" ? type : "message", frame);
    }
  }

  #opened(hello) {
    this.#alive();
    this.#after("stable", STABLE, () => this.#attempts = 0);
    this.#expired = this.#spread = 0;
    if (hello) this.#options.maxMessageSize = hello.max_message_size;
    this.#drain();
    this.#move("open");
    this.#emit("open", hello);
  }

  #alive() {
    this.#after("watch", this.#options.heartbeat, () => this.#ping());
  }

  #ping() {
    if (!this.#options.heartbeat) return;
    this.#transmit('{"type":"ping"}');
    this.#after("watch", this.#options.timeout, () => this.#ended());
  }

  #closed(code, reason) {
    const fatal = this.#fatal;
    if (!fatal && code === 1000) this.close();
    else if (fatal || (code < 3000 && code !== 1008)) this.#ended(fatal, fatal?.code ?? code);
    else this.#ended({ code: reason || `close_${code}`, message: "", reconnect: RETRY.includes(code) }, code);
  }

  #ended(refusal = this.#fatal, code = refusal?.code) {
    const lost = { code: "connection_lost", message: "The connection was lost.", reconnect: true };
    const error = new SecureSocketError(refusal ?? lost);
    // Who has expired tokens only would bring them for ever.
    if (error.code === "credentials_expired" && this.#state !== "open" && this.#expired++) error.reconnect = false;
    if (SHARED.includes(code) && !error.retry_after) this.#spread = 10_000;
    if (error.reconnect) {
      this.#drop();
      for (const id of this.#pending.keys()) if (!this.#queue.has(id)) this.#settle(id, error);
      this.#wait(error.retry_after * 1000);
    } else this.#stop("denied", error);
    if (refusal) this.#emit("denied", error);
  }

  #stop(state, error) {
    this.#drop();
    for (const sign of SIGNS) globalThis.removeEventListener?.(sign, this.#changed);
    this.#queue.clear();
    for (const id of this.#pending.keys()) this.#settle(id, error);
    if (this.#state !== state) this.#move(state);
  }

  #drop() {
    Object.values(this.#timers).forEach(clearTimeout);
    this.#attempt.abort();
    // Let go of first: a dead link reports its end much later.
    const socket = this.#socket;
    this.#socket = this.#fatal = null;
    socket?.close(1000);
  }

  #wait(imposed) {
    const { minDelay, maxDelay, pauseHidden } = this.#options;
    imposed = Math.max(0, imposed || 0);
    const widest = Math.max(this.#spread, minDelay * 2 ** this.#attempts++);
    const delay = imposed + Math.random() * Math.min(maxDelay, widest);
    this.#earliest = performance.now() + imposed;
    if (globalThis.navigator?.onLine === false || (pauseHidden && globalThis.document?.hidden)) {
      return this.#move("paused");
    }
    this.#after("wait", delay, () => this.#try());
    this.#move("waiting", delay);
  }

  #changed = () => {
    if (this.#state === "open") this.#ping();
    else if (this.#state !== "connecting") {
      clearTimeout(this.#timers.wait);
      this.#attempts = 0;
      this.#wait(this.#earliest - performance.now());
    }
  };

  #submit(text, id = {}, isUrgent = false) {
    const { size } = this.#queue, isOpen = this.#state === "open";
    if (this.#state === "denied" || this.#state === "closed") throw failure("closed", "The connection is closed.");
    this.#measure(text);
    if (isUrgent || (isOpen && !size && this.#socket.bufferedAmount < MAX_BUFFERED)) return this.#transmit(text, id);
    if (size >= this.#options.maxQueue) throw failure("queue_full", "Too many messages wait.");
    this.#queue.set(id, text);
    if (isOpen && !size) this.#after("drain", PACE, () => this.#drain());
  }

  #measure(text) {
    // The server would close the connection for good.
    if (new TextEncoder().encode(text).length > this.#options.maxMessageSize) throw failure("message_too_big", "The message is too big.");
  }

  #drain() {
    if (!this.#queue.size) return;
    if (this.#socket.bufferedAmount < MAX_BUFFERED) {
      const [[id, text]] = this.#queue;
      this.#queue.delete(id);
      this.#transmit(text, id);
    }
    this.#after("drain", PACE, () => this.#drain());
  }

  #transmit(text, id = {}) {
    const { codec } = this.#options, socket = this.#socket;
    if (!codec) return socket.send(text);
    this.#outgoing = this.#outgoing.then(async () => {
      try {
        const data = await codec.encode(text);
        this.#measure(data);
        socket.send(data);
      } catch (cause) {
        if (!this.#settle(id, cause)) this.#fail("not_sent", "A frame could not be sent.", cause);
      }
    });
  }

  #settle(id, answer) {
    const waiting = this.#pending.get(id);
    if (!waiting) return false;
    this.#pending.delete(id);
    this.#queue.delete(id);
    if (answer.type === "error") answer = new SecureSocketError(answer);
    if (answer instanceof Error) waiting.reject(answer);
    else waiting.resolve(answer);
    return true;
  }

  async #refresh() {
    const { signal } = this.#attempt;
    try {
      const token = await this.#options.getToken({ refresh: true });
      if (!token) throw failure("unauthenticated", "Log in to connect.");
      if (!signal.aborted) await this.request({ type: "refresh_token", token }, {}, true);
    } catch (cause) {
      if (signal.aborted) return;
      this.#fail("not_refreshed", "No newer token came.", cause);
      const pause = cause instanceof SecureSocketError ? cause.retry_after * 1000 : REFRESH_PACE;
      if (pause) this.#after("refresh", pause, () => this.#refresh());
    }
  }

  #after(name, delay, work) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(work, Math.min(delay, 2 ** 31 - 1));
  }

  #move(state, delay = 0) {
    const previous = this.#state;
    this.#state = state;
    this.#emit("state", { state, previous, delay });
  }

  #fail(code, message, cause) {
    this.#emit("error", { code, message, cause });
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
