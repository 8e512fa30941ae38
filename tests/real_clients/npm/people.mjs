// What an application does with openid-client when somebody signs in. Reads one JSON object with a step, prints what came of it.
import * as client from "openid-client";

const world = JSON.parse(await new Promise((resolve) => {
  let text = "";
  process.stdin.on("data", (piece) => (text += piece)).on("end", () => resolve(text));
}));
const configuration = await client.discovery(
  new URL(world.issuer),
  world.client_id,
  {},
  client.ClientSecretBasic(world.client_secret),
);

async function errorOf(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return error.error ?? error.code ?? error.message;
  }
}

const steps = {
  // Push the request (RFC 9126), and say where the browser is to go.
  async push() {
    const verifier = client.randomPKCECodeVerifier();
    const [state, nonce] = [client.randomState(), client.randomNonce()];
    const url = await client.buildAuthorizationUrlWithPAR(configuration, {
      redirect_uri: world.redirect_uri,
      scope: "openid offline_access orders:read",
      resource: "orders",
      code_challenge: await client.calculatePKCECodeChallenge(verifier),
      code_challenge_method: "S256",
      state,
      nonce,
    });
    return { url: url.href, verifier, state, nonce };
  },
  // The browser came back: everything that a relying party has to check is checked by the library.
  async back() {
    const { callback, verifier, state, nonce } = world;
    const other = new URL(callback);
    other.searchParams.set("iss", "https://other.example");
    const told = {
      wrongIssuer: await errorOf(client.authorizationCodeGrant(configuration, other, { expectedState: state })),
      wrongState: await errorOf(
        client.authorizationCodeGrant(configuration, new URL(callback), { expectedState: client.randomState() }),
      ),
      wrongVerifier: await errorOf(
        client.authorizationCodeGrant(configuration, new URL(callback), {
          expectedState: state,
          expectedNonce: nonce,
          pkceCodeVerifier: client.randomPKCECodeVerifier(),
        }),
      ),
    };
    const tokens = await client.authorizationCodeGrant(configuration, new URL(callback), {
      expectedState: state,
      expectedNonce: nonce,
      pkceCodeVerifier: verifier,
      idTokenExpected: true,
    });
    told.claims = tokens.claims();
    const refreshed = await client.refreshTokenGrant(configuration, tokens.refresh_token);
    told.access = refreshed.access_token;
    told.introspected = await client.tokenIntrospection(configuration, refreshed.access_token);
    await client.tokenRevocation(configuration, refreshed.refresh_token);
    told.refreshedAfterwards = await errorOf(client.refreshTokenGrant(configuration, refreshed.refresh_token));
    return told;
  },
  async device() {
    return client.initiateDeviceAuthorization(configuration, { scope: "orders:read", resource: "orders" });
  },
  async poll() {
    const tokens = await client.pollDeviceAuthorizationGrant(configuration, world.device);
    return { access: tokens.access_token, scope: tokens.scope };
  },
};
process.stdout.write(JSON.stringify(await steps[world.step]()));
