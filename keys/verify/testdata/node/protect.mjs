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
  if (scheme === "dpop") await prove(request, token, payload.cnf);
  return payload;
}

const hash = (text) => createHash("sha256").update(text).digest("base64url");
const address = (url) => Object.assign(new URL(url), { search: "", hash: "" }).href;
const used = new Map(); // proofs and when their age refuses them, the oldest first

// Throws unless the request has a new proof of the key (RFC 9449 §4.3).
async function prove(request, token, cnf) {
  const { payload, protectedHeader } = await jwtVerify(request.headers.dpop, EmbeddedJWK, {
    typ: "dpop+jwt",
    algorithms: ["ES256", "PS256", "EdDSA", "Ed25519"],
    maxTokenAge: 60,
    clockTolerance: 10,
    requiredClaims: ["jti"],
  });
  const { jti, htm, htu, ath } = payload;
  const jkt = await calculateJwkThumbprint(protectedHeader.jwk);
  if (JSON.stringify(cnf) !== JSON.stringify({ jkt })) throw new Error("another key, or bound by something else");
  if (htm !== request.method || address(htu) !== address(publicURL + request.url)) throw new Error("for another request");
  if (ath !== hash(token)) throw new Error("for another token");

  const now = Date.now();
  for (const [id, until] of used) {
    if (until > now) break;
    used.delete(id);
  }
  const id = hash(JSON.stringify([jkt, jti]));
  if (used.has(id) || used.size >= 100_000) throw new Error("used before, or no room to know");
  used.set(id, now + 81_000);
}

createServer(async (request, response) => {
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  const refuse = (status, error) => {
    const challenges = { bearer: `Bearer error="${error}"`, dpop: `DPoP error="${error}", algs="ES256 PS256 EdDSA Ed25519"` };
    response.writeHead(status, { "WWW-Authenticate": challenges[scheme.toLowerCase()] ?? ["Bearer", 'DPoP algs="ES256 PS256 EdDSA Ed25519"'] }).end();
  };
  try {
    const claims = await verify(request, scheme.toLowerCase(), token);
    if ((claims.scope ?? "").split(" ").includes("notes:read")) response.end(claims.sub);
    else refuse(403, "insufficient_scope");
  } catch {
    refuse(401, "invalid_token");
  }
}).listen(Number(process.env.PORT ?? 9001), "127.0.0.1", function () {
  console.log(this.address().port);
});
