import { readGrant, type Credential } from "./credential.js";
import { readProblem } from "./denial.js";
import { KeyfobError, SignedOutError, UNAVAILABLE } from "./error.js";

/** Pauses before the second and the third attempt (ms). */
const PAUSES = [300, 2_000];

export const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** The authority as the page calls it, at the page's own origin. */
export interface Authority {
  /**
   * Posts *body* to *path*, with the token and the CSRF token of *by*, and returns what is granted: undefined from `/logout` alone.
   *
   * Only what the authority says itself counts; anything else (a portal, a proxy's error, silence) is `unavailable`.
   */
  call(path: string, body: object, by?: Credential, init?: RequestInit): Promise<Credential | undefined>;
  /** Ends a refresh that is under way. The browser does not take its cookie either, which it would with `keepalive`. */
  abort(): void;
}

export function authorityAt(base: string, timeout: number, send: typeof fetch): Authority {
  let refresh: AbortController | undefined;
  return {
    async call(path, body, by, init) {
      const askedAt = Date.now();
      const isRefresh = path === "/refresh";
      const flight = new AbortController();
      if (isRefresh) refresh = flight;
      setTimeout(() => flight.abort(), timeout);
      try {
        const response = await send(base + path, {
          method: "POST",
          headers: {
            "content-type": "application/json",
            ...(by && { authorization: `Bearer ${by.access_token}`, "x-csrf-token": by.csrf_token }),
          },
          body: JSON.stringify(body),
          mode: "same-origin",
          redirect: "error",
          signal: flight.signal,
          ...init,
        });
        const { status } = response;
        if (status === 204 && path === "/logout") return undefined;
        if (response.ok) return readGrant(await response.json(), askedAt);
        const { code } = await readProblem(response);
        const isKnown = code && status < 500;
        const Kind = isKnown && isRefresh && status === 401 ? SignedOutError : KeyfobError;
        throw new Kind(isKnown ? code : UNAVAILABLE, Number(response.headers.get("retry-after")) || 0);
      } catch (error) {
        throw error instanceof KeyfobError ? error : new KeyfobError(UNAVAILABLE);
      }
    },
    abort: () => refresh?.abort(),
  };
}

/** Calls *work* up to three times, as long as nobody can be asked and it is still wanted. */
export async function persist<T>(work: () => Promise<T>, isWanted = (): boolean => true): Promise<T> {
  for (const pause of PAUSES) {
    try {
      return await work();
    } catch (error) {
      if ((error as KeyfobError).code !== UNAVAILABLE || !isWanted()) throw error;
      await sleep(pause);
    }
  }
  return work();
}
