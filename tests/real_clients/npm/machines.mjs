// What a machine does with openid-client and jose. Reads one JSON object, prints one: what came of each step.
import * as jose from "jose";
import * as client from "openid-client";

const world = JSON.parse(await new Promise((resolve) => {
  let text = "";
  process.stdin.on("data", (piece) => (text += piece)).on("end", () => resolve(text));
}));
const issuer = new URL(world.issuer);
const secret = () => world.client_secret;
const told = {};

async function discovered(clientId, metadata, authentication, options) {
  return client.discovery(issuer, clientId, metadata, authentication, options);
}

async function errorOf(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return { name: error.name, code: error.code ?? null, error: error.error ?? null, status: error.status ?? null };
  }
}

// Client credentials, in each way of saying who one is, from either document of metadata.
const ways = {
  client_secret_basic: [world.client_id, {}, client.ClientSecretBasic(secret()), "oidc"],
  client_secret_post: [world.client_id, {}, client.ClientSecretPost(secret()), "oauth2"],
};
const key = await jose.importJWK(world.private_key, "ES256");
ways.private_key_jwt = [world.key_client_id, {}, client.PrivateKeyJwt({ key, kid: world.private_key.kid }), "oidc"];
told.tokens = {};
const configurations = {};
for (const [way, [id, metadata, authentication, algorithm]] of Object.entries(ways)) {
  configurations[way] = await discovered(id, metadata, authentication, { algorithm });
  const answer = await client.clientCredentialsGrant(configurations[way], { scope: "orders:read", resource: "orders" });
  told.tokens[way] = { type: answer.token_type, expires_in: answer.expires_in, scope: answer.scope, text: answer.access_token };
}

// The token, checked by jose alone, with the published keys.
const metadata = configurations.client_secret_basic.serverMetadata();
const keys = jose.createRemoteJWKSet(new URL(metadata.jwks_uri));
const token = told.tokens.client_secret_basic.text;
const { payload, protectedHeader } = await jose.jwtVerify(token, keys, {
  issuer: world.issuer,
  audience: "orders",
  typ: "at+jwt",
  requiredClaims: ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"],
});
told.verified = { payload, protectedHeader };
told.wrongAudience = await errorOf(jose.jwtVerify(token, keys, { issuer: world.issuer, audience: "stock" }));

// Introspection, plain and signed, of a good token and of one that was given back; revocation.
const basic = configurations.client_secret_basic;
told.introspected = await client.tokenIntrospection(basic, token);
const signed = await discovered(
  world.client_id,
  { introspection_signed_response_alg: "ES256" },
  client.ClientSecretBasic(secret()),
);
client.enableNonRepudiationChecks(signed);
told.signed = await client.tokenIntrospection(signed, token);
told.revoked = (await client.tokenRevocation(basic, token)) ?? null;
told.revokedTwice = (await client.tokenRevocation(basic, token)) ?? null;
told.afterwards = await client.tokenIntrospection(signed, token);
told.others = await client.tokenIntrospection(basic, told.tokens.client_secret_post.text);

// What must fail.
told.wrongSecret = await errorOf(
  discovered(world.client_id, {}, client.ClientSecretBasic("wrong")).then((wrong) => client.clientCredentialsGrant(wrong)),
);
told.wrongScope = await errorOf(client.clientCredentialsGrant(basic, { scope: "everything", resource: "orders" }));

process.stdout.write(JSON.stringify(told));
