// A WebSocket to channels_secure that comes back when it may, and keeps no secret.

/** What a SecureSocket is doing; `denied` and `closed` last until `connect()` is called. */
export type State = "connecting" | "open" | "waiting" | "paused" | "denied" | "closed";

/** One JSON object on the wire. */
export interface Message {
  type: string;
  [member: string]: unknown;
}

/** The same to be sent, where no type of it is given; an interface fits, too. */
export interface Sendable {
  type: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  [member: string]: any;
}

/** The server's error frame, or what the client itself has to say, in the same form. */
export interface Refusal {
  /** A reason of the server's, or one of the client's: `no_credentials`, `not_refreshed`, `bad_frame`, `not_sent`. */
  code: string;
  /** Plain words for people. */
  message: string;
  /** Seconds after which another attempt can succeed. */
  retry_after?: number;
  /** What is wrong with the message's fields. */
  errors?: { path: string; message: string }[];
  /** The `id` of the message that was refused, where it carried one. */
  ref?: string | number;
  /** What a function of yours, fetch or the codec has thrown. */
  cause?: unknown;
}

/** Why a connection was refused or ended, what `send` throws and what `request` rejects with. */
export class SecureSocketError extends Error implements Refusal {
  constructor(refusal: Refusal & { reconnect?: boolean });
  /**
   * A reason of the server's; `close_4403` and the like where only the code came; `http_403` and the like from the
   * ticket endpoint; `bad_request`, `closed`, `connection_lost`, `message_too_big`, `queue_full`, `timeout`.
   */
  readonly code: string;
  /** Whether the client comes back by itself. */
  readonly reconnect: boolean;
  /** Seconds; 0 where the server named none. */
  readonly retry_after: number;
  readonly errors?: { path: string; message: string }[];
  readonly ref?: string | number;
}

export interface StateChange {
  state: State;
  previous: State;
  /** Milliseconds until the next attempt while `waiting`, otherwise 0. */
  delay: number;
}

/** The server's first frame, where `SEND_HELLO` is on. */
export interface Hello {
  type: "hello";
  connection_id: string;
  heartbeat_interval: number | null;
  max_message_size: number;
  expires_in: number | null;
}

export interface Events<Incoming = Message> {
  /** The state has changed, or a wait has become another. */
  state: StateChange;
  /** The server has let this connection in: its `hello`, or null where it sends none. */
  open: Hello | null;
  /** A frame of the application that answers no request. */
  message: Incoming;
  /** The server refused or ended the connection; `reconnect` says whether the client comes back by itself. */
  denied: SecureSocketError;
  /** One message was refused, or something failed that the client survives. */
  error: Refusal;
}

/** Turns whole frames into what goes over the wire, and back. */
export interface Codec {
  encode(text: string): string | Promise<string>;
  decode(frame: string): string | Promise<string>;
}

type Secret = string | null | undefined;

export interface Options {
  /**
   * Get in with a ticket, a new one for every attempt: the URL of the endpoint, or a function that fetches one.
   * The URL is asked for a ticket that opens the socket's path and no other.
   */
  ticket?: string | URL | (() => Secret | Promise<Secret>);
  /**
   * Return an access token, or null when nobody is logged in. It goes into the handshake; beside a ticket's URL it goes
   * to that endpoint instead. It is asked for again, with `refresh`, before it expires on the open socket.
   */
  token?: (context: { refresh: boolean }) => Secret | Promise<Secret>;
  /**
   * Return a newer access token for the open socket, whatever opened it, before its credentials expire there; unless
   * given, `token` is asked.
   */
  getToken?: (context: { refresh: boolean }) => Secret | Promise<Secret>;
  /** Get in with Django's session cookie, which the browser sends by itself: what is done without ticket and token. */
  session?: true;
  /** Return Django's CSRF token for the ticket endpoint; unless given, it is read from the cookie `csrftoken`. */
  csrf?: () => string;
  /** Subprotocols of the application, beside the package's own. */
  protocols?: string[];
  /**
   * The back-off is a random time up to `minDelay` (500 ms), doubled with every attempt up to `maxDelay` (20,000 ms).
   * When a server goes, whose clients would come back as one, it is up to ten seconds at least.
   */
  minDelay?: number;
  maxDelay?: number;
  /** Milliseconds for an attempt, for the answer to a request, and for one to a ping: 10,000. */
  timeout?: number;
  /** Milliseconds of silence after which the link is tested with a `ping`: 25,000. 0 sends none, not even the first. */
  heartbeat?: number;
  /** How many messages may wait for a connection: 100. */
  maxQueue?: number;
  /** Bytes of the longest message, 65,536; a `hello` says it better. */
  maxMessageSize?: number;
  /** Whether a page that nobody looks at waits with coming back: true. */
  pauseHidden?: boolean;
  codec?: Codec;
}

/** A WebSocket to channels_secure that gets in with fresh credentials, stays, and comes back when it may. */
export class SecureSocket<
  Outgoing extends { type: string } = Sendable,
  Incoming extends { type: string } = Message,
> extends EventTarget {
  /** Connect; a relative URL is relative to the page. */
  constructor(url: string | URL, options?: Options);
  get state(): State;
  /** How many messages wait to be sent. */
  get queued(): number;
  /** Listen; the function that is returned ends it. Each event is a CustomEvent with the same detail, too. */
  on<Name extends keyof Events>(name: Name, handler: (detail: Events<Incoming>[Name]) => void): () => void;
  /** Send a message, or keep it until there is a connection. Throws SecureSocketError where neither is possible. */
  send(message: Outgoing): void;
  /**
   * Send a message with an `id` and return the frame that comes with this `ref`. Rejects with a SecureSocketError: what
   * the server's error frame says, `timeout`, or `connection_lost` when nobody knows whether it was handled.
   */
  request<Answer = Incoming>(message: Outgoing, options?: { timeout?: number }): Promise<Answer>;
  /** Try now: after `denied` and `closed`, or instead of waiting. */
  connect(): void;
  /** End it: what has not been sent is dropped, and what has not been answered is rejected. */
  close(): void;
}
