/** The other side of the wire, for tests of what the page does: it answers as the server's documentation says, or as a test wants it. */

export const SERVICE = "https://orders.example";

export interface Call {
  readonly path: string;
  readonly headers: Headers;
  readonly body: unknown;
  readonly init: RequestInit;
}

/** Whether a test has stopped the clock. */
const isClockMocked = (): boolean => !/native code/.test(Function.prototype.toString.call(Date));

type Answer = Response | Promise<Response>;

/** A problem document as the authority and services write it. */
export function problem(status: number, code: string, next: string | null, headers: Record<string, string> = {}): Response {
  const body = { type: "about:blank", title: "", status, code, detail: "", next };
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/problem+json", "x-auth-cause": code, ...headers },
  });
}

/** A promise and what settles it. */
export function gate<T>(): { readonly promise: Promise<T>; readonly open: (value: T) => void; readonly fail: (error: unknown) => void } {
  let open!: (value: T) => void;
  let fail!: (error: unknown) => void;
  const promise = new Promise<T>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open, fail };
}

export class AuthorityStub {
  readonly calls: Call[] = [];
  /** What is answered next, in order, instead of what the authority would. */
  readonly instead: ((call: Call) => Answer)[] = [];
  /** What the service answers, in order; 200 where there is nothing. */
  readonly service: ((request: Request) => Answer)[] = [];
  readonly requests: { readonly url: string; readonly authorization: string | null; readonly body: string }[] = [];
  lifetime = 600;
  subject = "usr_alice";
  sessionId = "5e551011";
  #tokens = 0;

  /** Puts itself in the place of the global fetch. */
  install(): this {
    globalThis.fetch = (input, init) => this.#fetch(input, init);
    return this;
  }

  count(path: string): number {
    return this.calls.filter((call) => call.path === path).length;
  }

  /** What the authority answers to a login or a refresh. */
  grant(): Response {
    this.#tokens += 1;
    return Response.json({
      strategy: "hybrid",
      subject: this.subject,
      session_id: this.sessionId,
      expires_at: "2027-01-01T00:00:00Z",
      csrf_token: `csrf-of-${this.sessionId}`,
      access_token: `token-${this.#tokens}`,
      token_type: "Bearer",
      expires_in: this.lifetime,
    });
  }

  async #fetch(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    if (input instanceof Request) {
      this.requests.push({ url: input.url, authorization: input.headers.get("authorization"), body: await input.text() });
      return (this.service.shift() ?? ((): Response => new Response("good")))(input);
    }
    const call = { path: String(input), headers: new Headers(init.headers), body: JSON.parse(String(init.body)), init };
    this.calls.push(call);
    // No network answers within the millisecond, by which tabs tell credentials apart.
    const since = Date.now();
    while (Date.now() === since && !isClockMocked()) await new Promise((done) => setImmediate(done));
    const answer = this.instead.shift();
    const given = answer ? answer(call) : call.path === "/logout" ? new Response(null, { status: 204 }) : this.grant();
    const aborted = new Promise<never>((_, reject) => {
      const stop = (): void => reject(new DOMException("aborted", "AbortError"));
      if (init.signal?.aborted) stop();
      init.signal?.addEventListener("abort", stop);
    });
    return Promise.race([aborted, given]);
  }
}

/** `navigator.locks` as far as it is used here: one holder at a time, in order. */
export class Locks {
  #tail: Promise<unknown> = Promise.resolve();
  #held = 0;

  async request(_name: string, options: LockOptions, work: (lock: Lock | null) => unknown): Promise<unknown> {
    if (options.ifAvailable && this.#held) return work(null);
    this.#held += 1;
    const before = this.#tail;
    const mine = gate<void>();
    this.#tail = mine.promise;
    try {
      const aborted = new Promise<never>((_, reject) => {
        options.signal?.addEventListener("abort", () => reject(options.signal!.reason));
      });
      await Promise.race([before, aborted]);
      return await work({ name: _name, mode: "exclusive" });
    } finally {
      this.#held -= 1;
      void before.then(() => mine.open());
    }
  }
}

/** Gives the tests a browser's `navigator`, with or without locks. */
export function useNavigator(locks: Locks | undefined): void {
  Object.defineProperty(globalThis, "navigator", { value: { locks }, configurable: true });
}
