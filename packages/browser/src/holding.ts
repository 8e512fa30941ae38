import { persist, type Authority } from "./authority.js";
import { Age, ageOf, ripeAfter, type Credential } from "./credential.js";
import { SignedOutError } from "./error.js";
import { joinTabs, type News } from "./tabs.js";

/** How long after a failed refresh ahead of time the next one is tried (ms). */
const LATER = 5_000;

/** How often services may make this tab ask the authority whether the session is over (ms). */
const ASK_INTERVAL = 10_000;

/** What is told to the page: that it is signed out, and why; or (without a cause) that another tab is signed in, and this one is not. */
export type Tell = (cause?: string) => void;

/** Holds the one credential of this tab, in memory, and keeps it fresh. */
export interface Holding {
  current(): Credential | undefined;
  /** Returns a credential that can be sent; one that is ripe is refreshed meanwhile. */
  usable(): Promise<Credential>;
  /** Returns what is held if that is no longer *old*, else what a refresh gives. Any number of callers share one. */
  refresh(old: Credential | undefined): Promise<Credential>;
  /** As `refresh`, where there is only a service's word for it: *old* itself, if the authority was asked because of such a word just before. */
  ask(old: Credential): Promise<Credential>;
  /** Signs in, or renews the session: nobody refreshes meanwhile, and no answer that is under way counts afterwards. */
  renew(path: string, body: object, by?: Credential): Promise<Credential>;
  /** Drops the credential here and in all tabs; *work* is done when no tab refreshes. */
  signOut(): void;
  inTurn(work: () => Promise<unknown>): Promise<void>;
  /** Looks at the clock: timers do not count the time that a machine sleeps. With *isUnsure* even a fresh credential may be over. */
  wake(isUnsure: boolean): void;
  /**
   * Makes sure, before the page is left, that the browser gets the cookie of a refresh that is under way: by another one that outlives the page, since both
   * give the same.
   */
  leave(): void;
  close(): void;
}

export function holdAt(authority: Authority, name: string, patience: number, tellPage: Tell): Holding {
  let held: Credential | undefined;
  /** Why nothing is held. */
  let cause = "no_credential";
  /** Counts sign-ins and sign-outs: what was asked for before one is not taken after it. */
  let epoch = 0;
  let refreshing: Promise<void> | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isUsed = false;
  let lastAsked = 0;

  const tabs = joinTabs(name, patience, hear, (moment) =>
    held && held.askedAt > moment && ageOf(held) !== Age.Over ? held : undefined,
  );

  function known(): Credential {
    if (!held) throw new SignedOutError(cause);
    return held;
  }

  async function usable(): Promise<Credential> {
    isUsed = true;
    if (!held) await refreshing;
    const found = known();
    const age = ageOf(found);
    if (age === Age.Over) return newerThan(found);
    if (age === Age.Ripe) refreshQuietly(found);
    return found;
  }

  async function newerThan(old: Credential | undefined): Promise<Credential> {
    if (held === old) {
      refreshing ??= rotate(old).finally(() => (refreshing = undefined));
      await refreshing;
    }
    return known();
  }

  async function ask(old: Credential): Promise<Credential> {
    if (held === old && !refreshing) {
      const now = Date.now();
      if (Math.abs(now - lastAsked) < ASK_INTERVAL) return old;
      lastAsked = now;
    }
    return newerThan(old);
  }

  /** Refreshes; who needs to know that it failed finds out by asking again. */
  function refreshQuietly(old: Credential, otherwise = (): unknown => undefined): void {
    newerThan(old).catch(otherwise);
  }

  function rotate(old: Credential | undefined): Promise<void> {
    const before = epoch;
    const isWanted = (): boolean => epoch === before;
    return tabs.inTurn(async () => {
      for (let before = old; isWanted() && held === before; ) {
        let found: Credential | undefined;
        try {
          found = await persist(() => authority.call("/refresh", {}, held), isWanted);
        } catch (error) {
          if (!isWanted()) return;
          if (!(error instanceof SignedOutError)) throw error;
          return endEverywhere(error.code);
        }
        if (!isWanted()) return;
        // An answer that comes after a newer one has put an older cookie in its place: another refresh repairs that.
        if (held === before || found!.askedAt >= held!.askedAt) return publish(found!);
        before = held;
      }
    }, old?.askedAt ?? 0);
  }

  async function renew(path: string, body: object, by?: Credential): Promise<Credential> {
    const former = held;
    const before = epoch;
    await tabs.inTurn(async () => {
      const found = await authority.call(path, body, by);
      // A sign-out that came meanwhile waits for its turn, and ends this session too.
      if (epoch !== before) return;
      held = undefined;
      abandon();
      publish(found!);
    });
    const renewed = known();
    if (former && former.session_id !== renewed.session_id) {
      // By its token alone, without the cookie, which is the new one by now.
      authority.call("/logout", {}, former, { credentials: "omit" }).catch(() => undefined);
    }
    return renewed;
  }

  function publish(found: Credential): void {
    tabs.tell({ held: found, news: true });
    take(found);
  }

  function take(found: Credential): void {
    // A page that shows one user's data must not act for another.
    if (held && held.subject !== found.subject) return end("replaced");
    held = found;
    isUsed = false;
    schedule(ripeAfter(found) - (Date.now() - found.askedAt));
    tabs.wake();
  }

  function schedule(delay: number): void {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const old = held;
      // What nobody uses is not refreshed: it would keep an abandoned session from becoming idle.
      if (old && isUsed) refreshQuietly(old, () => ageOf(old) !== Age.Over && schedule(LATER));
    }, delay);
  }

  function hear(message: News): void {
    if ("cause" in message) {
      if (held && (message.ended ?? held.session_id) === held.session_id) end(message.cause);
      return;
    }
    const { held: found, news } = message;
    if (held ? found.askedAt > held.askedAt : refreshing) take(found);
    else if (news && !held) tellPage();
    // It came late, so that the cookie may be older than what is held here.
    else if (news && found.askedAt < held!.askedAt) refreshQuietly(held!);
  }

  function endEverywhere(why: string): void {
    tabs.tell({ ended: held?.session_id, cause: why });
    end(why);
  }

  function end(why: string): void {
    const isNew = held || why !== "no_credential";
    held = undefined;
    cause = why;
    abandon();
    if (isNew) tellPage(why);
  }

  /** Makes sure that nothing under way counts any more. */
  function abandon(): void {
    epoch += 1;
    clearTimeout(timer);
    authority.abort();
    tabs.wake();
  }

  return {
    current: () => held,
    usable,
    refresh: newerThan,
    ask,
    renew,
    signOut: () => endEverywhere("logout"),
    inTurn: tabs.inTurn,
    wake(isUnsure) {
      if (held && (isUnsure || ageOf(held) !== Age.Fresh)) refreshQuietly(held);
    },
    leave() {
      if (refreshing) authority.call("/refresh", {}, held, { keepalive: true }).catch(() => undefined);
    },
    close() {
      held = undefined;
      abandon();
      tabs.close();
    },
  };
}
