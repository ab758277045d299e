import { readFile } from "node:fs/promises";
import * as client from "openid-client";
import { browse } from "./browse.mjs";

const issuer = new URL(process.env.ISSUER); // https://login.example.com
const redirect_uri = process.env.REDIRECT_URI; // https://app.example.com/callback
const api = new URL(process.env.API); // https://api.example.com/orders

// The client's own key, whose public half is registered (private_key_jwt).
const jwk = JSON.parse(await readFile(process.env.KEY, "utf8"));
const key = await crypto.subtle.importKey("jwk", jwk, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);

const config = await client.discovery(issuer, process.env.CLIENT_ID, undefined, client.PrivateKeyJwt({ key, kid: jwk.kid }), {
  execute: issuer.hostname === "127.0.0.1" ? [client.allowInsecureRequests] : [],
});

// The key that the tokens are bound to. The library answers a demand for a
// nonce by itself.
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));

const pkceCodeVerifier = client.randomPKCECodeVerifier();
const expectedState = client.randomState();
const expectedNonce = client.randomNonce();
const authorize = await client.buildAuthorizationUrlWithPAR(
  config,
  {
    redirect_uri,
    scope: "openid profile offline_access notes:read",
    code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier),
    code_challenge_method: "S256",
    state: expectedState,
    nonce: expectedNonce,
  },
  { DPoP },
);

// Checks state, iss, nonce and the ID token, too.
const checks = { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true };
let tokens = await client.authorizationCodeGrant(config, await browse(authorize), checks, undefined, { DPoP });
const { sub } = tokens.claims();

const who = await client.fetchUserInfo(config, tokens.access_token, sub, { DPoP });
console.log(`Signed in ${who.preferred_username}, ${tokens.token_type}`);

// The server does not rotate a confidential client's refresh token: keep the
// one at hand when none comes.
tokens = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP });
console.log(`Refreshed, ${tokens.token_type}`);

const called = await client.fetchProtectedResource(config, tokens.access_token, api, "GET", undefined, undefined, { DPoP });
console.log(`Called the API, ${called.status}`);

await client.tokenRevocation(config, tokens.refresh_token);
console.log("Revoked");
