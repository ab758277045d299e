import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { calculateJwkThumbprint, createRemoteJWKSet, EmbeddedJWK, jwtVerify } from "jose";

const issuer = process.env.ISSUER; // https://login.example.com
const audience = process.env.AUDIENCE; // https://api.example.com
const publicURL = process.env.PUBLIC_URL ?? audience; // as the app calls this API
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

// Returns the claims of an access token that came under a scheme, or throws.
async function verify(request, scheme, token) {
  const { payload } = await jwtVerify(token, keys, {
    issuer,
    audience,
    typ: "at+jwt",
    algorithms: ["ES256"],
    requiredClaims: ["exp", "iat", "sub", "client_id", "jti"],
  });
  // A token that is bound to a key comes with its proof, and no other does.
  if (scheme !== ("cnf" in payload ? "dpop" : "bearer")) throw new Error("wrong scheme");
  if (payload.cnf) await prove(request, token, payload.cnf.jkt);
  return payload;
}

const hash = (text) => createHash("sha256").update(text).digest("base64url");
const used = new Map(); // proofs by their jti, until their age refuses them

// Throws unless the request has a proof of the key (RFC 9449 §4.3).
async function prove(request, token, jkt) {
  const { payload, protectedHeader } = await jwtVerify(request.headers.dpop, EmbeddedJWK, {
    typ: "dpop+jwt",
    algorithms: ["ES256", "PS256", "EdDSA", "Ed25519"],
    maxTokenAge: 60,
    clockTolerance: 10,
  });
  const { jti, htm, htu, ath } = payload;
  if ((await calculateJwkThumbprint(protectedHeader.jwk)) !== jkt) throw new Error("another key");
  if (htm !== request.method || htu !== publicURL + request.url.split("?")[0]) throw new Error("for another request");
  if (ath !== hash(token)) throw new Error("for another token");

  const now = Date.now();
  for (const [id, until] of used) {
    if (until > now) break;
    used.delete(id);
  }
  if (typeof jti !== "string" || used.has(hash(jti))) throw new Error("used before");
  used.set(hash(jti), now + 80_000);
}

createServer(async (request, response) => {
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  const challenge = scheme.toLowerCase() === "dpop" ? "DPoP" : "Bearer";
  try {
    const claims = await verify(request, scheme.toLowerCase(), token);
    if (!(claims.scope ?? "").split(" ").includes("notes:read")) {
      response.writeHead(403, { "WWW-Authenticate": `${challenge} error="insufficient_scope"` }).end();
      return;
    }
    response.end(claims.sub);
  } catch {
    response.writeHead(401, { "WWW-Authenticate": `${challenge} error="invalid_token"` }).end();
  }
}).listen(Number(process.env.PORT ?? 9001), "127.0.0.1", function () {
  console.log(this.address().port);
});
