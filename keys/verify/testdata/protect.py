import jwt  # PyJWT[crypto]

keys = jwt.PyJWKClient("https://login.example.com/jwks")


def verify(token: str) -> dict:
    """Returns the claims of an access token, or raises jwt.InvalidTokenError."""
    if jwt.get_unverified_header(token).get("typ") != "at+jwt":
        raise jwt.InvalidTokenError("not an access token")
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token).key,
        algorithms=["ES256"],
        issuer="https://login.example.com",
        audience="https://api.example.com",
        options={"require": ["exp", "iat", "sub", "client_id", "jti"]},
    )
    if "cnf" in claims:
        raise jwt.InvalidTokenError("bound to a key, sent without proof")
    return claims
