import { createServer } from "node:http";
import { createRemoteJWKSet, jwtVerify } from "jose";

const issuer = process.env.ISSUER; // https://login.example.com
const audience = process.env.AUDIENCE; // https://api.example.com
const keys = createRemoteJWKSet(new URL(`${issuer}/jwks`));

// Returns the claims of an access token, or throws.
async function verify(token) {
  const { payload } = await jwtVerify(token, keys, {
    issuer,
    audience,
    typ: "at+jwt",
    algorithms: ["ES256"],
    requiredClaims: ["exp", "iat", "sub", "client_id", "jti"],
  });
  if (payload.cnf) throw new Error("bound to a key, sent without proof");
  return payload;
}

createServer(async (request, response) => {
  const [scheme, token] = (request.headers.authorization ?? "").split(" ");
  try {
    if (scheme.toLowerCase() !== "bearer") throw new Error("no token");
    const claims = await verify(token);
    if (!(claims.scope ?? "").split(" ").includes("notes:read")) {
      response.writeHead(403, { "WWW-Authenticate": 'Bearer error="insufficient_scope"' }).end();
      return;
    }
    response.end(claims.sub);
  } catch {
    response.writeHead(401, { "WWW-Authenticate": 'Bearer error="invalid_token"' }).end();
  }
}).listen(Number(process.env.PORT ?? 9001), "127.0.0.1", function () {
  console.log(this.address().port);
});
