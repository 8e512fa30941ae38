// The service worker that holds the access token in place of the page: it takes it out of answers and puts it on requests.
let token = "";

self.addEventListener("install", () => self.skipWaiting());
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const url = new URL(event.request.url);
  if (url.origin !== self.location.origin) return;
  if (url.pathname === "/login" || url.pathname === "/refresh") event.respondWith(kept(event.request));
  if (["/orders", "/transfer", "/logout"].includes(url.pathname)) event.respondWith(signed(event.request));
});

async function kept(request) {
  const reply = await fetch(request);
  if (!reply.ok) return reply;
  const { access_token, ...rest } = await reply.json();
  token = access_token ?? token;
  return Response.json(rest, { status: reply.status });
}

async function signed(request) {
  const headers = new Headers(request.headers);
  if (token) headers.set("Authorization", `Bearer ${token}`);
  return fetch(new Request(request, { headers }));
}
