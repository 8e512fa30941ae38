import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import { Keyfob, KeyfobError, SignedOutError, type KeyfobOptions, type SignedOutEvent } from "../src/index.js";
import { AuthorityStub, gate, Locks, problem, SERVICE, useNavigator } from "./authority_stub.js";

const CREDENTIALS = { username: "alice", password: "seventeen green llamas" };

let authority: AuthorityStub;
let opened: Keyfob[];

beforeEach(() => {
  authority = new AuthorityStub().install();
  opened = [];
  useNavigator(new Locks());
});

afterEach(() => {
  for (const keyfob of opened) keyfob.close();
  mock.timers.reset();
  // @ts-expect-error: none of these is there outside of browsers
  delete globalThis.addEventListener;
  Reflect.deleteProperty(globalThis, "document");
});

/** Opens a tab: they share this process's BroadcastChannel, as pages of one origin do. */
function tab(options: KeyfobOptions = {}): Keyfob & { readonly causes: string[] } {
  const keyfob = Object.assign(new Keyfob({ origins: [SERVICE], timeout: 500, ...options }), { causes: [] as string[] });
  keyfob.addEventListener("signedout", (event) => keyfob.causes.push(event.cause));
  opened.push(keyfob);
  return keyfob;
}

async function signedIn(options?: KeyfobOptions): Promise<ReturnType<typeof tab>> {
  const keyfob = tab(options);
  await keyfob.login(CREDENTIALS);
  return keyfob;
}

const happens = (keyfob: Keyfob, type: string): Promise<Event> =>
  new Promise((done) => keyfob.addEventListener(type, done, { once: true }));

/** Lets messages between tabs arrive: one that is sent now comes after all that were sent before. */
async function messagesArrive(): Promise<void> {
  const [from, to] = [new BroadcastChannel("settle"), new BroadcastChannel("settle")];
  const arrived = new Promise((done) => (to.onmessage = done));
  from.postMessage(null);
  await arrived;
  await new Promise((done) => setImmediate(done));
  from.close();
  to.close();
}

const isCode = (code: string) => (error: unknown) => error instanceof KeyfobError && error.code === code;

test("the token goes to the origins that may have it, and to no other", async () => {
  const keyfob = await signedIn();
  for (const url of [`${SERVICE}/a`, "https://orders.example.evil/", "http://orders.example/", `${SERVICE}:8443/`]) {
    await keyfob.fetch(url);
  }
  assert.deepEqual(authority.requests.map((request) => request.authorization), ["Bearer token-1", null, null, null]);
});

test("what is no bare origin is refused when it is given", () => {
  for (const origin of ["https://orders.example/", "https://orders.example/api", "orders.example", "*", "https://orders.example:443"]) {
    assert.throws(() => new Keyfob({ origins: [origin] }), TypeError, origin);
  }
});

test("a request that has an Authorization header of its own keeps it, and is sent once", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(401, "expired", "refresh"));
  const answer = await keyfob.fetch(SERVICE, { headers: { authorization: "Bearer mine" } });
  assert.equal(answer.status, 401);
  assert.deepEqual(authority.requests.map((request) => request.authorization), ["Bearer mine"]);
});

test("nobody can read the token from the object, nor from storage", async () => {
  const keyfob = await signedIn();
  assert.doesNotMatch(JSON.stringify(keyfob) + Object.getOwnPropertyNames(keyfob).join() + JSON.stringify(keyfob.session), /token-/);
});

test("who is signed in is known after the login, and the token is asked for as a hybrid", async () => {
  const keyfob = tab();
  assert.equal(keyfob.session, null);
  const session = await keyfob.login({ ...CREDENTIALS, audience: ["orders"], persistent: true });
  assert.deepEqual(session, { subject: "usr_alice", sessionId: "5e551011", expiresAt: new Date("2027-01-01T00:00:00Z") });
  assert.deepEqual(keyfob.session, session);
  assert.deepEqual(authority.calls[0]?.body, { ...CREDENTIALS, audience: ["orders"], persistent: true, strategy: "hybrid" });
});

test("the authority is called at the page's own origin alone, and its answers lead nowhere else", async () => {
  const keyfob = await signedIn({ base: "/auth" });
  const { init, path } = authority.calls[0]!;
  assert.equal(path, "/auth/login");
  assert.deepEqual([init.mode, init.redirect], ["same-origin", "error"]);
  assert.equal(keyfob.session?.subject, "usr_alice");
});

test("a wrong password is said so, and asked once", async () => {
  const keyfob = tab();
  authority.instead.push(() => problem(401, "bad_credentials", null));
  await assert.rejects(keyfob.login(CREDENTIALS), (error) => isCode("bad_credentials")(error) && !(error instanceof SignedOutError));
  authority.instead.push(() => problem(429, "rate_limited", "retry", { "retry-after": "7" }));
  await assert.rejects(keyfob.login(CREDENTIALS), (error) => isCode("rate_limited")(error) && (error as KeyfobError).retryAfter === 7);
  authority.instead.push(() => Promise.reject(new TypeError("fetch failed")));
  await assert.rejects(keyfob.login(CREDENTIALS), isCode("unavailable"));
  assert.equal(authority.count("/login"), 3);
  assert.deepEqual(keyfob.causes, []);
});

test("without anybody signed in nothing is sent", async () => {
  await assert.rejects(tab().fetch(SERVICE), (error) => error instanceof SignedOutError && error.code === "no_credential");
  assert.deepEqual(authority.requests, []);
});

test("any number of requests that are refused at once share one refresh", async () => {
  const keyfob = await signedIn();
  const stale = (): Response => problem(401, "stale_claims", "refresh");
  authority.service.push(stale, stale, stale, stale, stale);
  const answers = await Promise.all(Array.from({ length: 5 }, () => keyfob.fetch(SERVICE)));
  assert.deepEqual(answers.map((answer) => answer.status), [200, 200, 200, 200, 200]);
  assert.equal(authority.count("/refresh"), 1);
});

test("a request that is sent again is the same, with its body", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(401, "stale_claims", "refresh"));
  await keyfob.fetch(SERVICE, { method: "POST", body: "two llamas" });
  assert.deepEqual(authority.requests.map(({ authorization, body }) => [authorization, body]), [
    ["Bearer token-1", "two llamas"],
    ["Bearer token-2", "two llamas"],
  ]);
});

test("the cause in the header helps where a proxy drops the body", async () => {
  const keyfob = await signedIn();
  for (const refreshes of [1, 2]) {
    authority.service.push(() => new Response(null, { status: 401, headers: { "x-auth-cause": "stale_claims" } }));
    assert.equal((await keyfob.fetch(SERVICE)).status, 200);
    assert.equal(authority.count("/refresh"), refreshes);
  }
});

test("a service that refuses whatever it is sent gets three requests, and the caller its answer", async () => {
  const keyfob = await signedIn();
  for (let number = 0; number < 9; number += 1) authority.service.push(() => problem(401, "stale_claims", "refresh"));
  const answer = await keyfob.fetch(SERVICE);
  assert.equal(((await answer.json()) as { code: string }).code, "stale_claims");
  assert.equal(authority.requests.length, 3);
});

for (const [status, code, next] of [
  [401, "reauthentication_required", "login"],
  [401, "wrong_audience", null],
  [401, "bad_proof", null],
  [403, "insufficient_role", null],
  [404, "not_found", null],
] as const) {
  test(`${code} is for the caller`, async () => {
    const keyfob = await signedIn();
    authority.service.push(() => problem(status, code, next));
    assert.equal((await keyfob.fetch(SERVICE)).status, status);
    assert.deepEqual([authority.count("/refresh"), authority.requests.length, keyfob.causes], [0, 1, []]);
  });
}

test("a verifier that is behind is asked again after Retry-After, with the same token", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(503, "verifier_stale", "retry", { "retry-after": "0" }));
  assert.equal((await keyfob.fetch(SERVICE)).status, 200);
  assert.deepEqual([authority.count("/refresh"), authority.requests.length], [0, 2]);
});

test("nobody waits longer than five seconds for a Retry-After", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(503, "verifier_stale", "retry", { "retry-after": "6" }));
  authority.service.push(() => problem(503, "unavailable", "retry", { "retry-after": "Wed, 21 Oct 2026 07:28:00 GMT" }));
  assert.deepEqual([(await keyfob.fetch(SERVICE)).status, (await keyfob.fetch(SERVICE)).status], [503, 503]);
  assert.equal(authority.requests.length, 2);
});

test("an outage that is nobody's refusal is not repeated", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => new Response("bad gateway", { status: 503 }));
  assert.equal((await keyfob.fetch(SERVICE, { method: "POST", body: "pay" })).status, 503);
  assert.equal(authority.requests.length, 1);
});

test("a service that says that the session is over is not believed: the authority is asked", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(401, "revoked", "login"));
  assert.equal((await keyfob.fetch(SERVICE)).status, 200);
  assert.deepEqual([authority.count("/refresh"), keyfob.causes], [1, []]);
});

test("a service that is configured wrongly does not make pages ask the authority all the time", async () => {
  const keyfob = await signedIn();
  for (let number = 0; number < 20; number += 1) authority.service.push(() => problem(401, "wrong_issuer", "login"));
  for (let number = 0; number < 9; number += 1) await keyfob.fetch(SERVICE);
  assert.equal(authority.count("/refresh"), 1);
});

test("requests that are refused at once without a reason share one question, and are all sent again", async () => {
  const keyfob = await signedIn();
  for (let number = 0; number < 5; number += 1) authority.service.push(() => new Response(null, { status: 401 }));
  const answers = await Promise.all(Array.from({ length: 5 }, () => keyfob.fetch(SERVICE)));
  assert.deepEqual(answers.map((answer) => answer.status), [200, 200, 200, 200, 200]);
  assert.equal(authority.count("/refresh"), 1);
});

test("a session that was ended is given up with its cause, once", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(401, "revoked", "login"));
  authority.instead.push(() => problem(401, "revoked", "login"));
  await assert.rejects(keyfob.fetch(SERVICE), (error) => error instanceof SignedOutError && error.code === "revoked");
  await assert.rejects(keyfob.fetch(SERVICE), isCode("revoked"));
  assert.deepEqual([keyfob.causes, keyfob.session, authority.requests.length], [["revoked"], null, 1]);
});

test("a lost answer is asked for again", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(401, "expired", "refresh"));
  authority.instead.push(() => Promise.reject(new TypeError("connection reset")));
  assert.equal((await keyfob.fetch(SERVICE)).status, 200);
  assert.equal(authority.count("/refresh"), 2);
});

test("an answer that does not come is given up in time, and asked for again", async () => {
  const keyfob = await signedIn({ timeout: 300 });
  authority.service.push(() => problem(401, "expired", "refresh"));
  authority.instead.push(() => new Promise<never>(() => undefined));
  assert.equal((await keyfob.fetch(SERVICE)).status, 200);
  assert.equal(authority.count("/refresh"), 2);
});

for (const [name, answer] of [
  ["an error of the store", (): Response => problem(503, "store_unavailable", "retry")],
  ["a portal's page", (): Response => new Response("<h1>Welcome to the airport</h1>", { headers: { "content-type": "text/html" } })],
  ["a portal that wants a login", (): Response => new Response("pay first", { status: 401 })],
  ["a fault", (): Response => problem(500, "internal_error", null)],
  ["an empty object", (): Response => Response.json({})],
  ["null", (): Response => Response.json(null)],
] as const) {
  test(`${name} in the place of a refresh signs nobody out`, async () => {
    mock.timers.enable({ apis: ["setTimeout"] });
    const keyfob = await signedIn();
    authority.instead.push(answer, answer, answer);
    authority.service.push(() => problem(401, "expired", "refresh"));
    const failed = assert.rejects(keyfob.fetch(SERVICE), (error) => isCode("unavailable")(error) && !(error instanceof SignedOutError));
    while (authority.count("/refresh") < 3) {
      await messagesArrive();
      mock.timers.tick(2_000);
    }
    await failed;
    assert.deepEqual([keyfob.causes, keyfob.session?.subject], [[], "usr_alice"]);
    assert.equal((await keyfob.fetch(SERVICE)).status, 200, "the token that is held goes on");
  });
}

test("the configuration's own mistake is said, and signs nobody out", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(401, "expired", "refresh"));
  authority.instead.push(() => problem(403, "cross_origin", null));
  await assert.rejects(keyfob.fetch(SERVICE), isCode("cross_origin"));
  assert.deepEqual([authority.count("/refresh"), keyfob.causes], [1, []]);
});

for (const [age, refreshes, tokens] of [
  [479_999, 0, ["Bearer token-1"]],
  [540_000, 1, ["Bearer token-1"]],
  [599_999, 1, ["Bearer token-1"]],
  [600_000, 1, ["Bearer token-2"]],
  [86_400_000, 1, ["Bearer token-2"]],
  [-1, 1, ["Bearer token-2"]],
] as const) {
  test(`a token of ten minutes after ${age} ms: ${refreshes ? "refreshed" : "as it is"}, and ${tokens[0]} is sent`, async () => {
    mock.timers.enable({ apis: ["Date"], now: 1_800_000_000_000 });
    const keyfob = await signedIn();
    mock.timers.setTime(1_800_000_000_000 + age);
    await keyfob.fetch(SERVICE);
    await messagesArrive();
    assert.deepEqual([authority.count("/refresh"), authority.requests.map((request) => request.authorization)], [refreshes, tokens]);
  });
}

test("a token in use is refreshed ahead of its end, and one that nobody uses is not", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const keyfob = await signedIn();
  await keyfob.fetch(SERVICE);
  mock.timers.tick(539_999);
  assert.equal(authority.count("/refresh"), 0);
  mock.timers.tick(1);
  await messagesArrive();
  assert.equal(authority.count("/refresh"), 1);
  mock.timers.tick(3_600_000);
  await messagesArrive();
  assert.equal(authority.count("/refresh"), 1, "nobody used the second");
});

test("a refresh ahead of the end that fails is tried again later", async () => {
  mock.timers.enable({ apis: ["setTimeout", "Date"] });
  const keyfob = await signedIn();
  await keyfob.fetch(SERVICE);
  const away = (): Response => problem(503, "store_unavailable", "retry");
  authority.instead.push(away, away, away);
  mock.timers.tick(540_000);
  for (let round = 0; round < 10 && authority.count("/refresh") < 4; round += 1) {
    await messagesArrive();
    mock.timers.tick(2_500);
  }
  await messagesArrive();
  assert.equal(authority.count("/refresh"), 4);
  await keyfob.fetch(SERVICE);
  assert.equal(authority.requests.at(-1)?.authorization, "Bearer token-2");
});

test("a page that begins takes part in what the browser is signed in to", async () => {
  const keyfob = tab();
  assert.equal((await keyfob.resume())?.subject, "usr_alice");
  assert.equal(await keyfob.resume().then((session) => session?.sessionId), "5e551011");
  assert.equal(authority.count("/refresh"), 1);
});

test("a request waits for a resumption that is under way", async () => {
  const keyfob = tab();
  const [session, answer] = await Promise.all([keyfob.resume(), keyfob.fetch(SERVICE)]);
  assert.deepEqual([session?.subject, answer.status], ["usr_alice", 200]);
});

test("a page that begins with nobody signed in is told so without an event", async () => {
  const keyfob = tab();
  authority.instead.push(() => problem(401, "no_credential", "login"));
  assert.equal(await keyfob.resume(), null);
  assert.deepEqual(keyfob.causes, []);
});

test("a page that begins after its session ended is told the cause", async () => {
  const keyfob = tab();
  authority.instead.push(() => problem(401, "reused", "login"));
  assert.equal(await keyfob.resume(), null);
  assert.deepEqual(keyfob.causes, ["reused"]);
});

test("a page that begins without a network does not say that nobody is signed in", async () => {
  const keyfob = tab({ timeout: 1 });
  const lost = (): Promise<never> => Promise.reject(new TypeError("fetch failed"));
  authority.instead.push(lost, lost, lost);
  mock.timers.enable({ apis: ["setTimeout"] });
  const failed = assert.rejects(keyfob.resume(), (error) => isCode("unavailable")(error) && !(error instanceof SignedOutError));
  while (authority.count("/refresh") < 3) {
    await messagesArrive();
    mock.timers.tick(2_000);
  }
  await failed;
});

test("a refresh carries the CSRF token of the session, for browsers that say nothing of origins", async () => {
  const keyfob = await signedIn();
  authority.service.push(() => problem(401, "expired", "refresh"));
  await keyfob.fetch(SERVICE);
  assert.equal(authority.calls[1]?.headers.get("x-csrf-token"), "csrf-of-5e551011");
  await keyfob.logout();
  assert.equal(authority.calls[2]?.headers.get("x-csrf-token"), "csrf-of-5e551011");
});

test("after a sign-out nothing that was under way signs in again", async () => {
  const keyfob = await signedIn();
  const late = gate<Response>();
  authority.service.push(() => problem(401, "expired", "refresh"));
  authority.instead.push(() => late.promise);
  const request = assert.rejects(keyfob.fetch(SERVICE), isCode("logout"));
  while (!authority.count("/refresh")) await messagesArrive();
  const out = keyfob.logout();
  assert.equal(authority.calls[1]?.init.signal?.aborted, true, "its cookie does not come either");
  late.open(authority.grant());
  await Promise.all([out, request]);
  assert.deepEqual([keyfob.session, keyfob.causes, authority.count("/refresh")], [null, ["logout"], 1]);
});

test("a sign-out during a login ends that login", async () => {
  const keyfob = tab();
  const late = gate<Response>();
  authority.instead.push(() => late.promise);
  const login = assert.rejects(keyfob.login(CREDENTIALS), isCode("logout"));
  while (!authority.count("/login")) await messagesArrive();
  const out = keyfob.logout();
  late.open(authority.grant());
  await Promise.all([login, out]);
  assert.deepEqual([keyfob.session, authority.calls.map((call) => call.path)], [null, ["/login", "/logout"]]);
});

test("a sign-out that could not be sent is said so, and is sent before anything else", async () => {
  const keyfob = await signedIn();
  const lost = (): Promise<never> => Promise.reject(new TypeError("fetch failed"));
  authority.instead.push(lost, lost, lost);
  mock.timers.enable({ apis: ["setTimeout"] });
  const failed = assert.rejects(keyfob.logout(), isCode("unavailable"));
  assert.deepEqual([keyfob.session, keyfob.causes], [null, ["logout"]], "dropped at once");
  while (authority.count("/logout") < 3) {
    await messagesArrive();
    mock.timers.tick(2_000);
  }
  await failed;
  mock.timers.reset();
  authority.instead.push(() => new Response(null, { status: 204 }), () => problem(401, "revoked", "login"));
  assert.equal(await keyfob.resume(), null);
  assert.deepEqual(authority.calls.slice(-2).map((call) => call.path), ["/logout", "/refresh"]);
});

for (const [name, next] of [
  ["a login", (keyfob: Keyfob): Promise<unknown> => keyfob.login(CREDENTIALS)],
  ["the network's return", (_: Keyfob, page: ReturnType<typeof useWindow>): void => page.happens("online")],
] as const) {
  test(`${name} sends a sign-out that is owed, once`, async () => {
    const page = useWindow();
    const keyfob = await signedIn();
    const away = (): Response => problem(500, "internal_error", null);
    authority.instead.push(away, away, away);
    mock.timers.enable({ apis: ["setTimeout"] });
    const failed = assert.rejects(keyfob.logout(), isCode("unavailable"));
    while (authority.count("/logout") < 3) {
      await messagesArrive();
      mock.timers.tick(2_000);
    }
    await failed;
    mock.timers.reset();
    await next(keyfob, page);
    while (authority.count("/logout") < 4) await messagesArrive();
    // Its answer is on the way: it takes a few turns until nothing is owed any more.
    for (let turn = 0; turn < 50; turn += 1) await messagesArrive();
    page.happens("online");
    for (let turn = 0; turn < 50; turn += 1) await messagesArrive();
    assert.equal(authority.count("/logout"), 4);
    assert.notEqual(authority.calls[4]?.path, "/login");
  });
}

test("signing out the others leaves this one alone", async () => {
  const keyfob = await signedIn();
  await keyfob.logout("others");
  assert.deepEqual(authority.calls[1]?.body, { devices: "others" });
  assert.deepEqual([keyfob.session?.subject, keyfob.causes], ["usr_alice", []]);
});

test("a second login ends the session before it, by its token and without the new cookie", async () => {
  const keyfob = await signedIn();
  authority.sessionId = "5e551022";
  await keyfob.login(CREDENTIALS);
  const logout = authority.calls[2]!;
  assert.deepEqual([logout.path, logout.headers.get("authorization"), logout.init.credentials], ["/logout", "Bearer token-1", "omit"]);
  assert.deepEqual([keyfob.session?.sessionId, keyfob.causes], ["5e551022", []]);
});

test("a changed password goes on with what it gave", async () => {
  const keyfob = await signedIn();
  await keyfob.changePassword("old", "new");
  assert.deepEqual([authority.calls[1]?.path, authority.calls[1]?.body], ["/password", { current: "old", new: "new" }]);
  assert.equal(authority.calls[1]?.headers.get("authorization"), "Bearer token-1");
  await keyfob.fetch(SERVICE);
  assert.equal(authority.requests[0]?.authorization, "Bearer token-2");
  assert.equal(authority.count("/logout"), 0);
});

test("a wrong present password is said so, and signs nobody out", async () => {
  const keyfob = await signedIn();
  authority.instead.push(() => problem(401, "bad_credentials", null));
  await assert.rejects(keyfob.changePassword("wrong", "new"), isCode("bad_credentials"));
  assert.equal(keyfob.session?.subject, "usr_alice");
});

test("after close nothing is held, and nothing is sent", async () => {
  const keyfob = await signedIn();
  keyfob.close();
  await assert.rejects(keyfob.fetch(SERVICE), SignedOutError);
  assert.deepEqual(authority.requests, []);
});

test("the event says why", async () => {
  const keyfob = await signedIn();
  const told = happens(keyfob, "signedout");
  await keyfob.logout();
  assert.equal(((await told) as SignedOutEvent).cause, "logout");
});

/** A page's window, as far as events go. */
function useWindow(): { readonly happens: (type: string, more?: object) => void } {
  const window = new EventTarget();
  globalThis.addEventListener = window.addEventListener.bind(window) as typeof globalThis.addEventListener;
  return { happens: (type, more = {}) => window.dispatchEvent(Object.assign(new Event(type), more)) };
}

function useDocument(hidden: boolean): void {
  Object.defineProperty(globalThis, "document", { value: { hidden }, configurable: true });
}

test("a page that comes back from the browser's cache asks whether its session is still there", async () => {
  const page = useWindow();
  const keyfob = await signedIn();
  page.happens("pageshow", { persisted: false });
  await messagesArrive();
  assert.equal(authority.count("/refresh"), 0);
  authority.instead.push(() => problem(401, "revoked", "login"));
  const told = happens(keyfob, "signedout");
  page.happens("pageshow", { persisted: true });
  await told;
  assert.deepEqual(keyfob.causes, ["revoked"]);
});

test("whoever comes back to a page after its token ended finds a fresh one, and a hidden page waits", async () => {
  mock.timers.enable({ apis: ["Date"], now: 1_800_000_000_000 });
  const page = useWindow();
  await signedIn();
  mock.timers.setTime(1_800_000_600_000);
  useDocument(true);
  for (const type of ["visibilitychange", "online", "focus"]) page.happens(type);
  await messagesArrive();
  assert.equal(authority.count("/refresh"), 0);
  useDocument(false);
  for (const type of ["visibilitychange", "online", "focus"]) page.happens(type);
  await messagesArrive();
  assert.equal(authority.count("/refresh"), 1);
});

test("a page that is left during a refresh asks once more, by a request that outlives it", async () => {
  const page = useWindow();
  const keyfob = await signedIn();
  page.happens("pagehide");
  await messagesArrive();
  assert.equal(authority.count("/refresh"), 0);
  const late = gate<Response>();
  authority.instead.push(() => late.promise);
  authority.service.push(() => problem(401, "expired", "refresh"));
  const request = keyfob.fetch(SERVICE);
  while (!authority.count("/refresh")) await messagesArrive();
  page.happens("pagehide");
  late.open(authority.grant());
  await request;
  assert.deepEqual(authority.calls.slice(1).map((call) => [call.path, call.init.keepalive]), [["/refresh", undefined], ["/refresh", true]]);
});

test("a refresh that is given up is aborted, and a sign-out outlives its page", async () => {
  const keyfob = await signedIn({ timeout: 300 });
  authority.service.push(() => problem(401, "expired", "refresh"));
  authority.instead.push(() => new Promise<never>(() => undefined));
  await keyfob.fetch(SERVICE);
  assert.deepEqual([authority.count("/refresh"), authority.calls[1]?.init.signal?.aborted], [2, true]);
  await keyfob.logout();
  assert.equal(authority.calls.at(-1)?.init.keepalive, true);
});

test("after close no event is heard", async () => {
  const page = useWindow();
  const keyfob = await signedIn();
  authority.instead.push(() => problem(403, "cross_origin", null));
  await assert.rejects(keyfob.logout(), isCode("cross_origin"));
  keyfob.close();
  page.happens("online");
  await messagesArrive();
  assert.equal(authority.count("/logout"), 1);
});
