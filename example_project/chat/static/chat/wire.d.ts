/** Made from the consumers by `manage.py ws_typescript`: change them, not this file. */

export {};

/** Either side asks whether the other is there. */
export interface ClientPing {
  type: "ping";
  /**
   * maxLength 64 or integer, minimum -9007199254740991, maximum 9007199254740991
   * default null
   */
  id?: string | number | null;
}

/** The answer to a ping. */
export interface ClientPong {
  type: "pong";
  /**
   * maxLength 64 or integer, minimum -9007199254740991, maximum 9007199254740991
   * default null
   */
  id?: string | number | null;
}

/** A refusal: of one message, or before a close if it is fatal. */
export interface ErrorFrame {
  type: "error";
  code: Reason;
  message: string;
  fatal: boolean;
  retry_after?: number;
  errors?: FieldError[];
  /** integer */
  ref?: string | number;
  reconnect?: boolean;
}

/** The first frame of a socket that was let in; times are in seconds, the size is in bytes of UTF-8. */
export interface Hello {
  type: "hello";
  connection_id: string;
  heartbeat_interval: number | null;
  /** integer */
  max_message_size: number;
  /** integer */
  expires_in: number | null;
}

/** The client has a newer access token. */
export interface RefreshToken {
  type: "refresh_token";
  token: string;
  /**
   * maxLength 64 or integer, minimum -9007199254740991, maximum 9007199254740991
   * default null
   */
  id?: string | number | null;
}

/** The answer to the client's `ping`. */
export interface ServerPong {
  type: "pong";
  /** integer */
  ref?: string | number;
}

/** The credential ends in so many seconds. */
export interface TokenExpiring {
  type: "token_expiring";
  /** integer */
  expires_in: number;
}

/** The answer to `refresh_token`: the seconds until the socket ends, null if nothing ends it. */
export interface TokenRefreshed {
  type: "token_refreshed";
  /** integer */
  expires_in: number | null;
  /** integer */
  ref?: string | number;
}

/** A member has another public key now: compare fingerprints again. */
export interface KeysChanged {
  type: "keys.changed";
  user: Person;
  key: string;
}

/** There is a new room key. */
export interface KeysEpoch {
  type: "keys.epoch";
  /** integer */
  epoch: number;
  maker: Holder;
  boxes: Wrapped[];
}

/** Whose keys are there, and which room key may I open? `epoch` asks for an older one. */
export interface KeysFetch {
  type: "keys.fetch";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /**
   * integer, minimum 1, maximum 2147483647
   * default null
   */
  epoch?: number | null;
}

/** This is my public key; `replace` says that it is to take the place of another one. */
export interface KeysPublish {
  type: "keys.publish";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** minLength 87, maxLength 87, pattern ^B[A-P][A-Za-z0-9_-]{84}[AEIMQUYcgkosw048]$ */
  key: string;
  /** default false */
  replace?: boolean;
}

/** The public key that is in force for oneself: the one sent, or the one that was there before. */
export interface KeysPublished {
  type: "keys.published";
  key: string;
  /**
   * integer
   * default null
   */
  ref?: string | number | null;
}

/** Here is a new room key, for every member. */
export interface KeysRotate {
  type: "keys.rotate";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** integer, minimum 1, maximum 2147483647 */
  epoch: number;
  /** minItems 1, maxItems 200 */
  boxes: Wrapped[];
}

/** One's own new room key is in force. */
export interface KeysRotated {
  type: "keys.rotated";
  /** integer */
  epoch: number;
  /**
   * integer
   * default null
   */
  ref?: string | number | null;
}

/** Not passed on: members or their keys have changed, or another room key is in force. Fetch, and make a new one. */
export interface KeysStale {
  type: "keys.stale";
  /** integer */
  epoch: number;
  /**
   * integer
   * default null
   */
  ref?: string | number | null;
}

/** Who has which key, and the room key of one epoch: by whom it was made, and wrapped for oneself, if it was. */
export interface KeysState {
  type: "keys.state";
  /** integer */
  epoch: number;
  members: Holder[];
  in_line: boolean;
  /** default null */
  maker?: Holder | null;
  /** default null */
  box?: string | null;
  /**
   * integer
   * default null
   */
  ref?: string | number | null;
}

/** Keep somebody out. */
export interface RoomBan {
  type: "room.ban";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** integer, minimum 0 or minLength 1, maxLength 255 */
  user: number | string;
}

/** What is different for oneself now: the room's rules, one's role, or for how many seconds one is muted. */
export interface RoomChanged {
  type: "room.changed";
  /** default null */
  title?: string | null;
  /**
   * integer
   * default null
   */
  slow?: number | null;
  /** default null */
  encrypted?: boolean | null;
  /** default null */
  role?: Role | null;
  /**
   * integer
   * default null
   */
  muted?: number | null;
}

/** Take a message back. */
export interface RoomDelete {
  type: "room.delete";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** minLength 1, maxLength 300 */
  message: string;
}

/** A message was taken back: take it off the page. */
export interface RoomDeleted {
  type: "room.deleted";
  id: string;
  by: Person;
}

/** What was asked with an `id` has been done; `message` names what was said. */
export interface RoomDone {
  type: "room.done";
  /** integer */
  ref: string | number;
  /** default null */
  message?: string | null;
}

/** The first message in a room: its rules, what one is there, and who else is, a hundred at most of `count`. */
export interface RoomEntered {
  type: "room.entered";
  room: string;
  title: string;
  role: Role;
  /** integer */
  slow: number;
  encrypted: boolean;
  /** integer */
  muted: number;
  members: PersonHere[];
  /** integer */
  count: number;
}

/** Who is here: the answer to `room.who`; also said when roles have changed, and how many are, in a crowd. */
export interface RoomHere {
  type: "room.here";
  /** integer */
  count: number;
  /** default null */
  members?: PersonHere[] | null;
  /**
   * integer
   * default null
   */
  ref?: string | number | null;
}

/** Somebody is here now, with the first of their sockets. */
export interface RoomJoined {
  type: "room.joined";
  user: PersonHere;
  /** integer */
  count: number;
}

/** End somebody's sockets in the room; whoever may enter may come back. */
export interface RoomKick {
  type: "room.kick";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** integer, minimum 0 or minLength 1, maxLength 255 */
  user: number | string;
}

/** Somebody is here no more, with none of their sockets. */
export interface RoomLeft {
  type: "room.left";
  user: Person;
  /** integer */
  count: number;
}

/** Somebody kept order. */
export interface RoomModerated {
  type: "room.moderated";
  act: Act;
  by: Person;
  /** default null */
  user?: Person | null;
  /**
   * integer
   * default null
   */
  seconds?: number | null;
  /** default null */
  role?: Role | null;
}

/** Take the word from somebody for so many seconds. */
export interface RoomMute {
  type: "room.mute";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** integer, minimum 0 or minLength 1, maxLength 255 */
  user: number | string;
  /** integer, minimum 1, maximum 31536000 */
  seconds: number;
}

/** Give somebody a role, higher or lower; `owner` hands the room over. */
export interface RoomPromote {
  type: "room.promote";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** integer, minimum 0 or minLength 1, maxLength 255 */
  user: number | string;
  role: Role;
}

/** Somebody said something. */
export interface RoomSaid {
  type: "room.said";
  id: string;
  user: Person;
  at: string;
  /** default null */
  text?: string | null;
  /** default null */
  sealed?: Sealed | null;
}

/** Something said, for everybody in the room. */
export interface RoomSay {
  type: "room.say";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /**
   * minLength 1, maxLength 2000
   * default null
   */
  text?: string | null;
  /** default null */
  sealed?: Sealed | null;
}

/** Set how many seconds members and guests wait between two messages; 0 is off. */
export interface RoomSlow {
  type: "room.slow";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** integer, minimum 0, maximum 21600 */
  seconds: number;
}

/** Let somebody in again. */
export interface RoomUnban {
  type: "room.unban";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** integer, minimum 0 or minLength 1, maxLength 255 */
  user: number | string;
}

/** Give it back. */
export interface RoomUnmute {
  type: "room.unmute";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
  /** integer, minimum 0 or minLength 1, maxLength 255 */
  user: number | string;
}

/** Who is here? */
export interface RoomWho {
  type: "room.who";
  /**
   * integer
   * default null
   */
  id?: string | number | null;
}

/** What is done to a room or to somebody in it; the word stands on the wire and in the audit trail. */
export type Act = "ban" | "delete" | "hand_over" | "kick" | "mute" | "promote" | "slow" | "unban" | "unmute";

/** One thing wrong with a message. */
export interface FieldError {
  path: string;
  message: string;
}

/** A member with a public key. */
export interface Holder {
  user: Person;
  key: string;
}

/** Somebody: a user, or with no id what acts by a name alone. */
export interface Person {
  /** integer */
  id: number | string | null;
  name: string;
}

/** Somebody who is in the room, and what they are there. */
export interface PersonHere {
  /** integer */
  id: number | string | null;
  name: string;
  role: Role;
}

/** Why something was refused or closed; the slug goes on the wire and into the audit trail. */
export type Reason = "ambiguous_credentials" | "bad_request" | "blocked" | "connection_limit" | "connection_replaced" | "credentials_expired" | "credentials_revoked" | "disconnected" | "handler_timeout" | "handshake_timeout" | "heartbeat_timeout" | "idle_timeout" | "internal_error" | "invalid_credentials" | "invalid_message" | "message_too_big" | "not_found" | "origin_malformed" | "origin_missing" | "origin_not_allowed" | "permission_denied" | "rate_limited" | "server_restart" | "session_ended" | "slow_consumer" | "too_many_errors" | "unauthenticated" | "unavailable" | "unknown_type" | "unsupported_data" | "wss_required";

/** What somebody is in a room, the highest first; not Django's `TextChoices`, which no schema can be made of. */
export type Role = "guest" | "member" | "moderator" | "owner";

/**
 * A message that only members can open.
 *
 * Args:
 *     epoch: of which room key.
 *     stream: one page of one sender; its messages are counted.
 *     n: the place in that stream, from 1.
 *     box: AES-GCM's ciphertext and tag.
 */
export interface Sealed {
  /** integer, minimum 1, maximum 2147483647 */
  epoch: number;
  /** minLength 22, maxLength 22, pattern ^[A-Za-z0-9_-]{22}$ */
  stream: string;
  /** integer, minimum 1, maximum 9007199254740991 */
  n: number;
  /** minLength 22, maxLength 16000, pattern ^[A-Za-z0-9_-]+$ */
  box: string;
}

/** A room key for whoever has the private half of the key with this fingerprint. */
export interface Wrapped {
  /** minLength 64, maxLength 64, pattern ^[0-9a-f]{64}$ */
  to: string;
  /** minLength 123, maxLength 123, pattern ^[A-Za-z0-9_-]{123}$ */
  box: string;
}

/**
 * What clients may send to ChatConsumer at /ws/chat/{room}/.
 * One user in one room, who says five things in ten seconds at most, in all rooms together.
 */
export type ToChatConsumer = KeysFetch | KeysPublish | KeysRotate | RoomBan | RoomDelete | RoomKick | RoomMute | RoomPromote | RoomSay | RoomSlow | RoomUnban | RoomUnmute | RoomWho | ClientPing | ClientPong | RefreshToken;
/** What clients may get from ChatConsumer at /ws/chat/{room}/. */
export type FromChatConsumer = KeysChanged | KeysEpoch | KeysPublished | KeysRotated | KeysStale | KeysState | RoomChanged | RoomDeleted | RoomDone | RoomEntered | RoomHere | RoomJoined | RoomLeft | RoomModerated | RoomSaid | ErrorFrame | Hello | ServerPong | TokenExpiring | TokenRefreshed;

/** Every channel by its key. */
export interface Channels {
  ChatConsumer: { address: "/ws/chat/{room}/"; to: ToChatConsumer; from: FromChatConsumer };
}
