/** Who is signed in, as the page may know it. */
export interface Session {
  readonly subject: string;
  /** May be logged: it is an id, no secret. */
  readonly sessionId: string;
  /** The absolute end of the session. It can end before. */
  readonly expiresAt: Date;
}

/**
 * What one answer of `/login`, `/refresh` or `/password` gave, under the authority's names, and when it was asked for.
 *
 * Tabs tell each other of it, so it is plain and can be cloned.
 */
export interface Credential {
  readonly access_token: string;
  /** Seconds that the token lives. */
  readonly expires_in: number;
  readonly csrf_token: string;
  readonly subject: string;
  readonly session_id: string;
  readonly expires_at: string;
  /**
   * When the request for it was sent, by this machine's clock (ms since the epoch). So it counts as older than it is, never as younger; and the
   * server's clock takes no part, so that one that is wrong all the time changes nothing.
   */
  readonly askedAt: number;
}

/** Where a credential stands. */
export const enum Age {
  Fresh,
  /** Good, and to be refreshed ahead of its end. */
  Ripe,
  /** Not to be sent any more. */
  Over,
}

/** Reads an answer of the authority. Throws `TypeError` for one without an access token. */
export function readGrant(body: unknown, askedAt: number): Credential {
  const credential = { ...(body as Credential), askedAt };
  if (!credential.access_token) throw TypeError();
  return credential;
}

export const sessionOf = ({ subject, session_id, expires_at }: Credential): Session => ({
  subject,
  sessionId: session_id,
  expiresAt: new Date(expires_at),
});

/** Returns after how many ms a credential is ripe: a fifth of its life, at most a minute, before its end. */
export const ripeAfter = ({ expires_in }: Credential): number => (expires_in - Math.min(60, expires_in / 5)) * 1000;

/**
 * Says where a credential stands by the wall clock, which goes on while a laptop sleeps. At exactly its lifetime it is over. One that
 * seems to come from the future was asked for before the clock was set back: how old it is cannot be told, so it is over.
 */
export function ageOf(credential: Credential): Age {
  const age = Date.now() - credential.askedAt;
  if (age < 0 || age >= credential.expires_in * 1000) return Age.Over;
  return age < ripeAfter(credential) ? Age.Fresh : Age.Ripe;
}
