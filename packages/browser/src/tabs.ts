import type { Credential } from "./credential.js";

/** What tabs tell each other, also those with another version of this module: another shape needs another name of the channel. It goes by BroadcastChannel, so to pages of this origin alone, and is kept nowhere. */
export type Message =
  /** A credential: `news` straight from the authority, or else the reply to `ask`. */
  | { readonly held: Credential; readonly news?: true }
  /** The session of this id is over; without an id, whichever it is. */
  | { readonly ended: string | undefined; readonly cause: string }
  /** Who has a credential that was asked for after this moment? With `rank`: I am about to ask the authority, before those of a higher rank. */
  | { readonly ask: number; readonly rank: number | undefined };

export type News = Exclude<Message, { ask: number }>;

/** The tabs of this browser that use the same authority: what they tell each other, and whose turn it is. */
export interface Tabs {
  tell(message: Message): void;
  /** Ends the waiting for news: there are some. */
  wake(): void;
  /**
   * Does *work* when it is this tab's turn. With *moment*, what other tabs hold that was asked for after it has been heard before, if there is any.
   */
  inTurn(work: () => Promise<unknown>, moment?: number): Promise<void>;
  close(): void;
}

/** How long to wait for a reply of another tab (ms). It costs nothing but time if there is none. */
const REPLY = 300;

/**
 * Takes this tab into the circle.
 *
 * With Web Locks one tab at a time has its turn. Without them tabs agree by messages, as well as that goes; without BroadcastChannel each asks the
 * authority itself, one after the other. Without both each is on its own. The server's rotation can be repeated, so that even two at once are right: all
 * of this only saves requests.
 *
 * *heard* is called for messages about credentials. *newerThan* returns what this tab holds if that was asked for after the moment given. *patience* (ms) is how long
 * another tab may have its turn: one that is frozen with it must not stop the others for good.
 */
export function joinTabs(
  name: string,
  patience: number,
  heard: (message: News) => void,
  newerThan: (moment: number) => Credential | undefined,
): Tabs {
  const channel = globalThis.BroadcastChannel && new BroadcastChannel(name);
  const waiting = new Set<() => void>();
  /** This tab's place among those that want to ask the authority; 0 while it does. */
  let rank: number | undefined;
  let isBehind = false;

  const tell = (message: Message): void => channel?.postMessage(message);
  const news = (atMost: number): Promise<void> =>
    new Promise((done) => {
      waiting.add(done);
      setTimeout(done, atMost);
    });
  const ask = async (moment?: number): Promise<void> => {
    if (moment === undefined || newerThan(moment)) return;
    tell({ ask: moment, rank });
    // Where nobody can reply: two that refresh in one moment, time and again, would look like a thief to the server.
    await news(channel ? REPLY : (rank ?? 0) * 300);
  };
  const byRank = async (work: () => Promise<unknown>, moment?: number): Promise<void> => {
    isBehind = false;
    rank = 1 + Math.random();
    try {
      await ask(moment);
      if (isBehind && !newerThan(moment!)) await news(patience);
      rank = 0;
      await work();
    } finally {
      rank = undefined;
    }
  };

  if (channel) {
    channel.onmessage = ({ data }: MessageEvent<Message>) => {
      if (!("ask" in data)) return heard(data);
      const held = newerThan(data.ask);
      if (held) tell({ held });
      else if (data.rank! > rank!) tell({ ask: data.ask, rank });
      else if (data.rank! < rank!) isBehind = true;
    };
  }
  return {
    tell,
    wake() {
      for (const done of waiting) done();
      waiting.clear();
    },
    async inTurn(work, moment) {
      const locks = globalThis.navigator?.locks;
      if (!locks) return byRank(work, moment);
      let hasBegun = false;
      const begin = async (hasWaited: unknown): Promise<void> => {
        hasBegun = true;
        // Messages may be slower than the lock: ask for what the one before found.
        if (hasWaited) await ask(moment);
        await work();
      };
      await locks.request(name, { ifAvailable: true }, (lock) => lock && begin(false));
      if (hasBegun) return;
      await locks.request(name, { signal: AbortSignal.timeout(patience) }, begin).catch((error: unknown) => {
        if (hasBegun) throw error;
        return begin(true);
      });
    },
    close: () => channel?.close(),
  };
}
