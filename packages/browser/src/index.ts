export { KeyfobError, SignedOutError } from "./error.js";
export { Keyfob } from "./keyfob.js";
export type { KeyfobEventMap, KeyfobOptions, LoginRequest, SignedOutEvent } from "./keyfob.js";
export type { Session } from "./credential.js";
