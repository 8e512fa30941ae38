import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Keyfob, KeyfobError } from "../src/index.js";
import { AuthorityStub, gate, Locks, problem, SERVICE, useNavigator } from "./authority_stub.js";

const CREDENTIALS = { username: "alice", password: "seventeen green llamas" };
const Channel = globalThis.BroadcastChannel;

let authority: AuthorityStub;
let opened: Keyfob[];

beforeEach(() => {
  authority = new AuthorityStub().install();
  opened = [];
  useNavigator(new Locks());
});

afterEach(() => {
  for (const keyfob of opened) keyfob.close();
  globalThis.BroadcastChannel = Channel;
  mock.timers.reset();
});

function tab(): Keyfob & { readonly causes: string[] } {
  const keyfob = Object.assign(new Keyfob({ origins: [SERVICE], timeout: 500 }), { causes: [] as string[] });
  keyfob.addEventListener("signedout", (event) => keyfob.causes.push(event.cause));
  opened.push(keyfob);
  return keyfob;
}

async function messagesArrive(): Promise<void> {
  const [from, to] = [new Channel("settle"), new Channel("settle")];
  const arrived = new Promise((done) => (to.onmessage = done));
  from.postMessage(null);
  await arrived;
  await new Promise((done) => setImmediate(done));
  from.close();
  to.close();
}

/** Opens *count* tabs that are signed in to one session. */
async function tabs(count: number): Promise<ReturnType<typeof tab>[]> {
  const all = Array.from({ length: count }, tab);
  await all[0]!.login(CREDENTIALS);
  for (const keyfob of all.slice(1)) await keyfob.resume();
  await messagesArrive();
  authority.calls.length = 0;
  return all;
}

const withoutLocks = (): void => useNavigator(undefined);
const withoutChannel = (): void => {
  // @ts-expect-error: an old browser
  delete globalThis.BroadcastChannel;
};

// Without locks tabs have to hear of each other in time, which a machine that is busy enough prevents: then two ask.
for (const [name, prepare, most] of [
  ["locks and messages", (): void => undefined, 1],
  ["messages alone", withoutLocks, 2],
] as const) {
  test(`with ${name}, tabs that are refused at once make one refresh`, async () => {
    prepare();
    const all = await tabs(8);
    for (const _ of all) authority.service.push(() => problem(401, "stale_claims", "refresh"));
    const answers = await Promise.all(all.map((keyfob) => keyfob.fetch(SERVICE)));
    assert.deepEqual(new Set(answers.map((answer) => answer.status)), new Set([200]));
    assert.ok(authority.count("/refresh") <= most);
    assert.ok(new Set(authority.requests.slice(8).map((request) => request.authorization)).size <= most);
  });

  test(`with ${name}, tabs that begin at once make one refresh`, async () => {
    prepare();
    const all = Array.from({ length: 8 }, tab);
    const sessions = await Promise.all(all.map((keyfob) => keyfob.resume()));
    assert.deepEqual(new Set(sessions.map((session) => session?.sessionId)), new Set(["5e551011"]));
    assert.ok(authority.count("/refresh") <= most);
  });

  test(`with ${name}, one tab that signs out signs out all`, async () => {
    prepare();
    const all = await tabs(4);
    await all[2]!.logout();
    await messagesArrive();
    assert.deepEqual(all.map((keyfob) => [keyfob.session, ...keyfob.causes]), Array.from({ length: 4 }, () => [null, "logout"]));
    assert.equal(authority.count("/logout"), 1);
  });

  test(`with ${name}, a session that was ended is given up by all tabs, after one request`, async () => {
    prepare();
    const all = await tabs(4);
    for (const _ of all) authority.service.push(() => problem(401, "revoked", "login"));
    authority.instead.push(() => problem(401, "revoked", "login"));
    const failures = await Promise.allSettled(all.map((keyfob) => keyfob.fetch(SERVICE)));
    assert.deepEqual(failures.map((failure) => failure.status === "rejected" && (failure.reason as KeyfobError).code), Array(4).fill("revoked"));
    assert.deepEqual(all.map((keyfob) => keyfob.causes), Array(4).fill(["revoked"]));
    assert.ok(authority.count("/refresh") <= most);
  });
}

for (const [name, prepare] of [
  ["locks alone", withoutChannel],
  ["neither locks nor messages", (): void => (withoutLocks(), withoutChannel())],
] as const) {
  test(`with ${name}, every tab refreshes, and none is signed out`, async () => {
    prepare();
    const all = await Promise.all(Array.from({ length: 4 }, async () => {
      const keyfob = tab();
      await keyfob.resume();
      return keyfob;
    }));
    for (const _ of all) authority.service.push(() => problem(401, "stale_claims", "refresh"));
    const answers = await Promise.all(all.map((keyfob) => keyfob.fetch(SERVICE)));
    assert.deepEqual(answers.map((answer) => answer.status), Array(4).fill(200));
    assert.deepEqual(all.map((keyfob) => keyfob.causes), Array(4).fill([]));
  });
}

test("a tab that is frozen in its turn does not stop the others for good", async () => {
  const locks = new Locks();
  useNavigator(locks);
  const frozen = gate<void>();
  const [first, second] = await tabs(2);
  void locks.request("keyfob/1", {}, () => frozen.promise);
  authority.service.push(() => problem(401, "expired", "refresh"), () => problem(401, "expired", "refresh"));
  const answers = await Promise.all([first!.fetch(SERVICE), second!.fetch(SERVICE)]);
  assert.deepEqual(answers.map((answer) => answer.status), [200, 200]);
  frozen.open();
});

test("a tab without anybody is told that another tab is signed in, and takes part when it wants", async () => {
  const [first, second] = [tab(), tab()];
  const told = new Promise((done) => second.addEventListener("signedin", done, { once: true }));
  await first.login(CREDENTIALS);
  await told;
  assert.equal(second.session, null);
  assert.equal((await second.resume())?.subject, "usr_alice");
});

test("a page of one user does not act for another who signed in in another tab", async () => {
  const [first, second] = await tabs(2);
  authority.subject = "usr_bob";
  authority.sessionId = "5e551033";
  await second!.login({ ...CREDENTIALS, username: "bob" });
  await messagesArrive();
  assert.deepEqual([first!.session, first!.causes], [null, ["replaced"]]);
  await assert.rejects(first!.fetch(SERVICE), (error) => error instanceof KeyfobError && error.code === "replaced");
  assert.equal(second!.session?.subject, "usr_bob");
  assert.equal((await first!.resume())?.subject, "usr_bob", "when the page asks for it");
});

test("a refresh that gives another user signs the page out", async () => {
  const [keyfob] = await tabs(1);
  authority.subject = "usr_bob";
  authority.service.push(() => problem(401, "expired", "refresh"));
  await assert.rejects(keyfob!.fetch(SERVICE), (error) => error instanceof KeyfobError && error.code === "replaced");
  assert.deepEqual(keyfob!.causes, ["replaced"]);
});

test("the same user's new login in another tab is taken over", async () => {
  const [first, second] = await tabs(2);
  authority.sessionId = "5e551044";
  await second!.login(CREDENTIALS);
  await messagesArrive();
  assert.deepEqual([first!.session?.sessionId, first!.causes], ["5e551044", []]);
});

test("a sign-out of another session is none of this tab", async () => {
  const [first, second] = await tabs(2);
  authority.sessionId = "5e551055";
  await second!.login(CREDENTIALS);
  const channel = new Channel("keyfob/1");
  channel.postMessage({ ended: "5e551011", cause: "logout" });
  await messagesArrive();
  channel.close();
  assert.deepEqual([first!.causes, second!.causes], [[], []]);
});

test("an answer that comes after a newer one is not taken, and its cookie is repaired", async () => {
  mock.timers.enable({ apis: ["Date"], now: 1_800_000_000_000 });
  const [first, second] = await tabs(2);
  useNavigator(undefined);
  const late = gate<Response>();
  const older = authority.grant();
  authority.instead.push(() => late.promise);
  mock.timers.setTime(1_800_000_001_000);
  authority.service.push(() => problem(401, "expired", "refresh"));
  const request = first!.fetch(SERVICE);
  while (!authority.count("/refresh")) await messagesArrive();
  // The other tab does not wait: as after its patience.
  const newer = { ...((await authority.grant().json()) as object), askedAt: 1_800_000_002_000 };
  const channel = new Channel("keyfob/1");
  channel.postMessage({ held: newer, news: true });
  await messagesArrive();
  mock.timers.setTime(1_800_000_003_000);
  late.open(older);
  await request;
  channel.close();
  assert.equal(authority.count("/refresh"), 2);
  await messagesArrive();
  await second!.fetch(SERVICE);
  const [, repeated, other] = authority.requests.map((sent) => sent.authorization);
  assert.equal(repeated, other);
  assert.notEqual(repeated, `Bearer ${(newer as unknown as { access_token: string }).access_token}`);
});

test("a tab that hears of a late answer repairs the cookie", async () => {
  const [first] = await tabs(1);
  const channel = new Channel("keyfob/1");
  const told = new Promise((done) => (channel.onmessage = done));
  channel.postMessage({ held: { ...((await authority.grant().json()) as object), askedAt: 1 }, news: true });
  await told;
  channel.close();
  assert.equal(authority.count("/refresh"), 1);
  assert.equal(first!.session?.subject, "usr_alice");
});

test("the reply to a question, which may be older than what others hold, repairs nothing", async () => {
  await tabs(1);
  const channel = new Channel("keyfob/1");
  channel.postMessage({ held: { ...((await authority.grant().json()) as object), askedAt: 1 } });
  await messagesArrive();
  channel.close();
  assert.equal(authority.count("/refresh"), 0);
});

test("a tab that is asked for something newer says what it holds, if that is newer", async () => {
  await tabs(1);
  const channel = new Channel("keyfob/1");
  const replies: unknown[] = [];
  channel.onmessage = ({ data }) => replies.push(data);
  channel.postMessage({ ask: Date.now() + 1000 });
  channel.postMessage({ ask: 1 });
  while (!replies.length) await messagesArrive();
  channel.close();
  const [{ held }] = replies as [{ held: { session_id: string } }];
  assert.deepEqual([replies.length, held.session_id], [1, "5e551011"]);
});
