/**
 * What a call of `Keyfob` rejects with.
 *
 * `code` is that of the authority's problem document (`bad_credentials`, `rate_limited`, `cross_origin` ...), or `unavailable` where nobody could be
 * asked, or the answer was none of the authority's: then nothing is known, and the same call may go through later.
 */
export class KeyfobError extends Error {
  override name = "KeyfobError";

  constructor(
    readonly code: string,
    /** Seconds after which the authority wants to be asked again; 0 where it did not say. */
    readonly retryAfter = 0,
  ) {
    super(`keyfob: ${code}`);
  }
}

/**
 * Nobody is signed in, or no longer: only a login helps. `code` is the cause (`revoked`, `expired`, `idle`, `reused` ...), `logout` after a sign-out,
 * `replaced` where somebody else signed in in this browser, and `no_credential` where nobody was signed in at all.
 */
export class SignedOutError extends KeyfobError {
  override name = "SignedOutError";
}

export const UNAVAILABLE = "unavailable";
