import { createInterface } from "node:readline/promises";
import { getListFromStatusListJWT } from "@sd-jwt/jwt-status-list";
import { createRemoteJWKSet, jwtVerify } from "jose";

const issuer = process.env.ISSUER; // https://login.example.com
const audience = process.env.AUDIENCE; // https://api.example.com
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));
const lists = new Map(); // by address

// Returns whether a token that was verified was revoked since. Throws if that
// can't be known.
async function revoked({ status }) {
  const { idx, uri } = status.status_list;
  const now = Date.now();
  for (const [other, { until }] of lists) if (until <= now) lists.delete(other);
  if (!lists.has(uri)) {
    const response = await fetch(uri, { headers: { Accept: "application/statuslist+jwt" } });
    if (!response.ok) throw new Error(`${uri} answered ${response.status}`);
    const jwt = await response.text();
    const { payload } = await jwtVerify(jwt, keys, {
      issuer,
      subject: uri,
      typ: "statuslist+jwt",
      algorithms: ["ES256"],
      requiredClaims: ["iat", "exp", "ttl"],
    });
    lists.set(uri, { list: getListFromStatusListJWT(jwt), until: now + payload.ttl * 1000 });
  }
  return lists.get(uri).list.getStatus(idx) !== 0;
}

// One access token a line.
for await (const token of createInterface({ input: process.stdin })) {
  const { payload } = await jwtVerify(token, keys, { issuer, audience, typ: "at+jwt", algorithms: ["ES256"] });
  console.log((await revoked(payload)) ? "revoked" : "good");
}
