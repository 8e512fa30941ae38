// One peer on Node.js: `node server.mjs express 6379` prints its port. POST /login signs somebody in, GET /me says who it is.
import { createServer } from "node:http";
import { randomBytes } from "node:crypto";

const [peer, redisPort] = process.argv.slice(2);
const servers = { express, better_auth: betterAuth, oidc_provider: oidcProvider };

async function express() {
  const { default: make } = await import("express");
  const { default: session } = await import("express-session");
  const { RedisStore } = await import("connect-redis");
  const { createClient } = await import("redis");
  const client = createClient({ url: `redis://127.0.0.1:${redisPort}` });
  await client.connect();
  const app = make();
  app.use(session({ store: new RedisStore({ client }), secret: randomBytes(32).toString("hex"), resave: false, saveUninitialized: false }));
  app.post("/login", (request, response) => {
    request.session.user = request.query.user;
    response.json({});
  });
  app.get("/me", (request, response) => {
    if (!request.session.user) return response.status(401).json({});
    response.json({ user: request.session.user });
  });
  return createServer(app);
}

async function betterAuth() {
  const { betterAuth: make } = await import("better-auth");
  const { memoryAdapter } = await import("better-auth/adapters/memory");
  const { toNodeHandler, fromNodeHeaders } = await import("better-auth/node");
  const tables = { user: [], session: [], account: [], verification: [] };
  const auth = make({
    database: memoryAdapter(tables),
    secret: randomBytes(32).toString("hex"),
    baseURL: "http://127.0.0.1",
    // Signing in is not measured, so it need not be slow.
    emailAndPassword: { enabled: true, password: { hash: async (text) => text, verify: async () => true } },
    rateLimit: { enabled: false },
    advanced: { disableCSRFCheck: true },
    telemetry: { enabled: false },
  });
  const handler = toNodeHandler(auth);
  return createServer(async (request, response) => {
    const url = new URL(request.url, "http://127.0.0.1");
    if (url.pathname === "/login") {
      const made = await auth.api.signUpEmail({
        body: { email: `${url.searchParams.get("user")}@peers.example`, name: "peer", password: "a long phrase nobody guesses" },
        asResponse: true,
      });
      response.writeHead(made.status, { "set-cookie": made.headers.getSetCookie(), "content-length": 2 }).end("{}");
    } else if (url.pathname === "/me") {
      const session = await auth.api.getSession({ headers: fromNodeHeaders(request.headers) });
      const body = JSON.stringify({ user: session?.user.email });
      response.writeHead(session ? 200 : 401, { "content-type": "application/json", "content-length": Buffer.byteLength(body) }).end(body);
    } else {
      await handler(request, response);
    }
  });
}

async function oidcProvider() {
  const { default: Provider } = await import("oidc-provider");
  const secret = process.env.PEER_SECRET;
  const provider = new Provider("http://127.0.0.1", {
    clients: [{ client_id: "peer", client_secret: secret, grant_types: ["client_credentials"], redirect_uris: [], response_types: [] }],
    features: { introspection: { enabled: true }, clientCredentials: { enabled: true }, devInteractions: { enabled: false } },
    cookies: { keys: [secret] },
  });
  const handler = provider.callback();
  return createServer((request, response) => {
    if (request.url.startsWith("/login")) {
      request.url = "/token";
      request.headers.authorization = "Basic " + Buffer.from(`peer:${secret}`).toString("base64");
    }
    handler(request, response);
  });
}

const server = await servers[peer]();
server.keepAliveTimeout = 60000;
server.listen(0, "127.0.0.1", () => console.log(server.address().port));
