import * as oauth from "oauth4webapi";
import { browse } from "./browse.mjs";

const issuer = new URL(process.env.ISSUER); // https://login.example.com
const client = { client_id: process.env.CLIENT_ID };
const redirectURI = process.env.REDIRECT_URI; // https://app.example.com/callback
const api = new URL(process.env.API); // https://api.example.com/orders
const http = { [oauth.allowInsecureRequests]: issuer.hostname === "127.0.0.1" };
const nobody = oauth.None(); // a public client has no secret

const server = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, http));

// One key for all tokens. It does not leave this place: it is not extractable.
const DPoP = oauth.DPoP(client, await oauth.generateKeyPair("ES256"));

// The first answer of a server may be that it wants its nonce in the proof. By
// then DPoP knows it.
async function proved(send) {
  try {
    return await send();
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error;
    return await send();
  }
}

// The request is pushed: the browser carries a reference to it.
const verifier = oauth.generateRandomCodeVerifier();
const state = oauth.generateRandomState();
const nonce = oauth.generateRandomNonce();
const request = {
  response_type: "code",
  redirect_uri: redirectURI,
  scope: "openid profile offline_access notes:read",
  code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
  code_challenge_method: "S256",
  state,
  nonce,
};
const pushed = await proved(async () =>
  oauth.processPushedAuthorizationResponse(server, client, await oauth.pushedAuthorizationRequest(server, client, nobody, request, { DPoP, ...http })),
);
const authorize = new URL(server.authorization_endpoint);
authorize.searchParams.set("client_id", client.client_id);
authorize.searchParams.set("request_uri", pushed.request_uri);

// Checks state, and iss: the answer is this server's (RFC 9207).
const answer = oauth.validateAuthResponse(server, client, await browse(authorize), state);

let tokens = await proved(async () =>
  oauth.processAuthorizationCodeResponse(
    server,
    client,
    await oauth.authorizationCodeGrantRequest(server, client, nobody, answer, redirectURI, verifier, { DPoP, ...http }),
    { expectedNonce: nonce, requireIdToken: true },
  ),
);
const { sub } = oauth.getValidatedIdTokenClaims(tokens);

const who = await proved(async () =>
  oauth.processUserInfoResponse(server, client, sub, await oauth.userInfoRequest(server, client, tokens.access_token, { DPoP, ...http })),
);
console.log(`Signed in ${who.preferred_username}, ${tokens.token_type}`);

tokens = await proved(async () =>
  oauth.processRefreshTokenResponse(server, client, await oauth.refreshTokenGrantRequest(server, client, nobody, tokens.refresh_token, { DPoP, ...http })),
);
console.log(`Refreshed, ${tokens.token_type}`);

const called = await proved(() => oauth.protectedResourceRequest(tokens.access_token, "GET", api, undefined, undefined, { DPoP, ...http }));
console.log(`Called the API, ${called.status}`);

await oauth.processRevocationResponse(await oauth.revocationRequest(server, client, nobody, tokens.refresh_token, http));
console.log("Revoked");
