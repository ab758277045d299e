import { createHash } from "node:crypto";
import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from "jose";

const api = process.env.PUBLIC_URL; // how the app reaches this API: https://api.example.com
const used = new Map(); // the proofs of the last minute and when they end

// Throws unless the request may use the token: as Bearer if it is bound to no
// key, and with a proof by its key if it is.
export async function prove(request, scheme, token, claims) {
  if (!claims.cnf && scheme.toLowerCase() === "bearer") return;
  if (scheme.toLowerCase() !== "dpop" || Object.keys(claims.cnf ?? {}).join() !== "jkt") throw new Error("not as it is bound");
  const proof = await jwtVerify(request.headers.dpop, EmbeddedJWK, {
    typ: "dpop+jwt",
    algorithms: ["ES256", "PS256", "EdDSA", "Ed25519"],
    maxTokenAge: 60,
    clockTolerance: 10,
    requiredClaims: ["jti"],
  });
  const { htm, htu, ath, jti } = proof.payload;
  const address = (url) => Object.assign(new URL(url), { search: "", hash: "" }).href;
  if (htm !== request.method || address(htu) !== address(api + request.url)) throw new Error("proof for another request");
  if (ath !== createHash("sha256").update(token).digest("base64url")) throw new Error("proof for another token");
  if ((await calculateJwkThumbprint(proof.protectedHeader.jwk)) !== claims.cnf.jkt) throw new Error("proof by another key");
  // The last check, so that a refused request uses up nothing.
  const now = Date.now();
  for (const [id, end] of used) if (end < now) used.delete(id);
  const id = createHash("sha256").update(JSON.stringify([claims.cnf.jkt, jti])).digest("base64url");
  if (used.has(id) || used.size >= 100000) throw new Error("proof was used before");
  used.set(id, now + 90000);
}
