// The shop's own script. Where it keeps what it calls with is its placement; it calls fetch as pages do, by its global name.
const query = new URLSearchParams(location.search);
const placement = query.get("placement");
const strategy = query.get("strategy");
let token = "";
let csrf = "";

async function withWorker() {
  if (placement !== "service_worker") return;
  await navigator.serviceWorker.register("/worker.js");
  if (navigator.serviceWorker.controller) return;
  await new Promise((taken) => navigator.serviceWorker.addEventListener("controllerchange", taken, { once: true }));
}

function keep(grant) {
  csrf = grant.csrf_token ?? "";
  if (placement === "local_storage") localStorage.setItem("access_token", grant.access_token);
  if (placement === "memory") token = grant.access_token;
}

function credentials() {
  const bearer = placement === "local_storage" ? localStorage.getItem("access_token") : token;
  return { ...(bearer ? { Authorization: `Bearer ${bearer}` } : {}), ...(csrf ? { "X-CSRF-Token": csrf } : {}) };
}

async function post(path, body) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...credentials() },
    body: JSON.stringify(body),
  });
}

window.shop = {
  ready: withWorker(),
  async logIn(username, password) {
    await withWorker();
    const transport = strategy === "hybrid" && placement === "cookie" ? "bff" : "cookie";
    // Good at the shop and at its services, which are named so. The textbook's servers know no other and pass it over.
    const audience = [location.origin, "shop"];
    const reply = await post("/login", { username, password, strategy, transport, audience });
    if (reply.ok) keep(await reply.json());
    return reply.status;
  },
  async orders() {
    return (await fetch("/orders", { headers: credentials() })).status;
  },
  async transfer() {
    return (await post("/transfer", { to: "friend" })).status;
  },
  async logOut() {
    const reply = await post("/logout", {});
    localStorage.removeItem("access_token");
    token = "";
    return reply.status;
  },
};
