import { authorityAt, persist, sleep, type Authority } from "./authority.js";
import { sessionOf, type Session } from "./credential.js";
import { helpFor } from "./denial.js";
import { SignedOutError } from "./error.js";
import { holdAt, type Holding } from "./holding.js";

/** Where the authority is, and who may get the token. */
export interface KeyfobOptions {
  /** The path below which the authority is reached at this page's origin, such as `/auth`; by default its root. */
  readonly base?: string;
  /** The origins that may get the access token, such as `https://orders.example`; by default this page's own alone. */
  readonly origins?: readonly string[];
  /**
   * How long the authority may take for one answer (ms; 8 s by default). Three attempts have to fit in the server's `refresh.replay_window`,
   * so that a lost answer is found again.
   */
  readonly timeout?: number;
}

/** A login by name and password. */
export interface LoginRequest {
  readonly username: string;
  readonly password: string;
  /** The services that the access token is for; by default the authority alone. */
  readonly audience?: string | readonly string[];
  readonly client_id?: string;
  /** Whether the login outlasts the browser. */
  readonly persistent?: boolean;
}

/** Says that this tab is signed out, and why: the cause of the authority, `logout`, or `replaced` by somebody else's login in this browser. */
export interface SignedOutEvent extends Event {
  readonly cause: string;
}

/** What `addEventListener` of a `Keyfob` takes. */
export interface KeyfobEventMap {
  signedout: SignedOutEvent;
  /** Another tab is signed in, and this one is not: `resume()` takes part in it. May come again. */
  signedin: Event;
}

const WATCHED = ["visibilitychange", "online", "pageshow", "focus", "pagehide"];

/**
 * Keeps this page signed in: holds the access token of a hybrid login in memory, and nowhere else.
 *
 * One object per page is enough; each tab has its own, and they agree with each other. All methods may be called at any time and at once.
 */
export class Keyfob extends EventTarget {
  readonly #send = globalThis.fetch.bind(globalThis);
  readonly #origins: ReadonlySet<string>;
  readonly #authority: Authority;
  readonly #holding: Holding;
  /** Aborted when this object is closed. */
  readonly #life = new AbortController();
  /** A sign-out that did not reach the authority yet. */
  #owed: (() => Promise<void>) | undefined;

  /** Throws `TypeError` for an origin that is none, such as one with a path. Nothing is sent before the first call. */
  constructor({ base = "", origins, timeout = 8_000 }: KeyfobOptions = {}) {
    super();
    this.#origins = new Set((origins ?? [location.origin]).map(checkedOrigin));
    this.#authority = authorityAt(base, timeout, this.#send);
    this.#holding = holdAt(this.#authority, `keyfob/1${base}`, timeout * 1.25, (cause) =>
      this.dispatchEvent(Object.assign(new Event(cause ? "signedout" : "signedin"), { cause })),
    );
    for (const type of WATCHED) {
      // Also those of the document: this is in the way that they take. Where there is no page there may be no events.
      globalThis.addEventListener?.(type, this.#wake, { capture: true, signal: this.#life.signal });
    }
  }

  /** Who is signed in in this tab; null for nobody. No request is made. */
  get session(): Session | null {
    const held = this.#holding.current();
    return held ? sessionOf(held) : null;
  }

  /**
   * Signs in with a name and a password. Rejects with `KeyfobError`: `bad_credentials`, `rate_limited` ..., or `unavailable`. The session that
   * this tab had before is ended.
   */
  async login(asked: LoginRequest): Promise<Session> {
    if (this.#owed) await this.#owed();
    return sessionOf(await this.#holding.renew("/login", { ...asked, strategy: "hybrid" }));
  }

  /** Changes the password, ends the subject's other sessions, and goes on. The access token must be for the authority, too. */
  async changePassword(current: string, password: string): Promise<Session> {
    const by = await this.#holding.usable();
    return sessionOf(await this.#holding.renew("/password", { current, new: password }, by));
  }

  /**
   * Takes part in what the browser is signed in to: to be called once when the page begins. Returns null where that is nothing (any more), and
   * rejects with `KeyfobError` `unavailable` where it cannot be told.
   */
  async resume(): Promise<Session | null> {
    if (this.#owed) await this.#owed();
    try {
      return this.session ?? sessionOf(await this.#holding.refresh(undefined));
    } catch (error) {
      if (error instanceof SignedOutError) return null;
      throw error;
    }
  }

  /**
   * As the global `fetch`, with the access token for the origins that may have it.
   *
   * A request whose token is refused because it is old (`expired`, `stale_claims`, `unknown_key`) is sent again with a fresh one, and one that is
   * refused for the moment (`retry`) after `Retry-After`, up to 5 s; at most twice. Rejects with `SignedOutError` where nobody is signed in,
   * and with `KeyfobError` `unavailable` where a token is needed and cannot be had now; otherwise as `fetch`. To other origins, and with an
   * `Authorization` header of the caller's own, it is `fetch` and nothing else.
   */
  async fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const request = new Request(input, init);
    if (!this.#origins.has(new URL(request.url).origin) || request.headers.has("authorization")) return this.#send(request);
    for (let left = 2; ; left -= 1) {
      const credential = await this.#holding.usable();
      const attempt = request.clone();
      attempt.headers.set("authorization", `Bearer ${credential.access_token}`);
      const response = await this.#send(attempt);
      const help = left ? await helpFor(response) : undefined;
      if (typeof help === "number") {
        await sleep(help);
      } else if (!help || (await this.#holding[help](credential)) === credential) {
        return response;
      }
    }
  }

  /**
   * Signs out: `this` device, the subject's `others`, or `all`.
   *
   * Every tab of this browser drops its token at once, before the authority has answered. Rejects with `KeyfobError` `unavailable` if it
   * could not be told: then the session may still live there, and this page tells it as soon as it is online again, or at the next call. So wait for
   * it before the page is left.
   */
  async logout(devices: "this" | "others" | "all" = "this"): Promise<void> {
    const held = this.#holding.current();
    const send = (): Promise<void> =>
      this.#holding.inTurn(() => persist(() => this.#authority.call("/logout", { devices }, held, { keepalive: true })));
    if (devices === "others") return send();
    this.#owed = async () => {
      await send();
      this.#owed = undefined;
    };
    this.#holding.signOut();
    return this.#owed();
  }

  /** Lets go of everything; the session goes on. */
  close(): void {
    this.#life.abort();
    this.#holding.close();
  }

  readonly #wake = (event: Event): void => {
    if (event.type === "pagehide") return this.#holding.leave();
    this.#owed?.().catch(() => undefined);
    // A page that comes back from the browser's cache has not heard what the others said meanwhile.
    if (!globalThis.document?.hidden) this.#holding.wake((event as PageTransitionEvent).persisted);
  };
}

export interface Keyfob {
  addEventListener<K extends keyof KeyfobEventMap>(
    type: K,
    listener: (event: KeyfobEventMap[K]) => void,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

function checkedOrigin(text: string): string {
  if (new URL(text).origin !== text) throw new TypeError(`no origin: ${text}`);
  return text;
}
