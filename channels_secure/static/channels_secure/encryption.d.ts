/** Why something could not be encrypted, decrypted or trusted. */
export class EncryptionError extends Error {
  /**
   * `unreadable`: a frame or message that does not decrypt. `replayed`: one that came again, or too late.
   * `key_changed`: members (`users`), or the maker of the room key (`user`), have other public keys than before.
   * `key_elsewhere`: another browser of the same user has the key in force. `rolled_back`: the server offers an older
   * room key. `unknown_member`: the maker of a room key, or whom one would accept, was never seen as a member.
   * `no_room_key`, `bad_room_key`, `bad_key`, `stale`.
   */
  code: string;
  user?: User;
  users?: User[];
}

export interface Codec {
  encode(text: string): Promise<string>;
  decode(frame: string): Promise<string>;
}

export interface FernetOptions {
  /** Seconds after which a token is refused; null accepts any age. 60 unless given. */
  ttl?: number | null;
  /** Seconds since 1970; the browser's own clock unless given. */
  clock?: () => number;
  /** For tests alone: the bytes of an initialisation vector. */
  random?: (length: number) => Uint8Array<ArrayBuffer>;
}

/** The codec for a consumer with FernetCodec. The first key encrypts, each decrypts. */
export function fernet(keys: string | string[], options?: FernetOptions): Promise<Codec>;

/** Where keys, pins and counters are kept. Values can be cloned, CryptoKeys among them. */
export interface Store {
  get(key: string): Promise<any>;
  put(key: string, value: any): Promise<void>;
  /** Keep what a function makes of the value that is there, in one transaction; returns what is kept then. */
  update(key: string, change: (before: any) => any): Promise<any>;
}

/** A store in IndexedDB. */
export function browserStore(name?: string): Store;

/** SHA-256 of a public key, in hexadecimal. Rejects for what is no public key. */
export function fingerprintOf(key: string): Promise<string>;

/** The half of a fingerprint that people read to each other: eight groups of four. */
export function spoken(fingerprint: string): string;

/** A user's key pair, made in this browser; the private key cannot be read out of it. */
export class Identity {
  private constructor();
  /** Open the one that this browser has for a user, or make it. */
  static open(user: string | number, options?: { store?: Store }): Promise<Identity>;
  readonly publicKey: string;
  readonly fingerprint: string;
  readonly privateKey: CryptoKey;
}

export interface User {
  id: string | number;
  name: string;
}

export interface Member {
  user: User;
  key: string;
  fingerprint: string;
  /** Somebody has compared the fingerprint and said so with `accept(id, {verified: true})`. */
  verified: boolean;
  /** It is another key than before, and nobody has accepted it yet. */
  changed: boolean;
}

export interface Opened {
  id: string;
  user: User;
  /** When the server passed it on, in its own words. */
  at: string;
  /** When the sender's browser sealed it, by its clock. */
  sentAt: Date;
  text: string;
  /** The key that it is under was compared; whoever has the room key could, with the server, use it. */
  verified: boolean;
  /** It is under a key that nobody has accepted, or under a former one. */
  changed: boolean;
}

export interface RoomOptions {
  /** The room's slug. Both sides must use the same. */
  room: string;
  /** The primary key of the user who is logged in. */
  user: string | number;
  identity: Identity;
  store?: Store;
}

export interface RoomEvents {
  /** Published, and the members' keys are known. */
  ready: Member[];
  members: Member[];
  /** `missing` messages of this sender's were kept back before this one; null where nobody can know. */
  message: Opened & { missing: number | null };
  /** A member has another public key: nothing is said until it is accepted. */
  keychange: { user: User; before: string; after: string; wasVerified: boolean };
  error: { error: EncryptionError | Error; frame?: any };
}

/** What a room needs of a SecureSocket. */
export interface RoomSocket {
  readonly state: string;
  on(name: "message" | "open", handler: (detail: any) => void): () => void;
  request(message: any): Promise<any>;
}

/** One sealed room on one socket: it sees to the keys, seals what is said and opens what is heard. */
export class SealedRoom extends EventTarget {
  constructor(socket: RoomSocket, options: RoomOptions);
  readonly members: Member[];
  on<Name extends keyof RoomEvents>(name: Name, handler: (detail: RoomEvents[Name]) => void): () => void;
  /** Seal a text and say it; a new room key is made first where it is due. */
  say(text: string): Promise<any>;
  /**
   * Go on with a member's new key, the one with the `fingerprint` that was shown; `verified` says that people have
   * compared it. Rejects with `key_changed` when it is another one by now.
   */
  accept(user: string | number, options: { fingerprint: string; verified?: boolean }): Promise<void>;
  /** Put this browser's key in force in place of another browser's. */
  takeOver(): Promise<void>;
  /** Forget which room keys were seen: for a room that was deleted and made anew under the same name. */
  forget(): Promise<void>;
  /** Open a message that was kept, as often as one likes: counters are not looked at. */
  read(said: any): Promise<Opened>;
  /** Listen no more. */
  close(): void;
}
