import type { User } from "oidc-client-ts";
import type { Session } from "./session";

// The nonces that servers gave, by origin (RFC 9449 §8.2).
const nonces = new Map<string, string>();

// call sends a request with the access token and a proof that is made for it.
// A server that wants its nonce in the proof says so once.
export async function call(session: Session, user: User, method: string, url: string, body?: object): Promise<Response> {
  const { origin, pathname } = new URL(url);
  for (let last = false; ; last = true) {
    const proof = await session.dpopProof(origin + pathname, user, method, nonces.get(origin));
    if (!proof) throw new Error("The key is gone: sign in again.");
    const response = await fetch(url, {
      method,
      headers: { Authorization: `DPoP ${user.access_token}`, DPoP: proof, ...(body ? { "Content-Type": "application/json" } : {}) },
      body: body ? JSON.stringify(body) : undefined,
    });
    const nonce = response.headers.get("DPoP-Nonce");
    if (nonce) nonces.set(origin, nonce);
    if (last || !nonce || challenged(response, "error") !== "use_dpop_nonce") return response;
  }
}

// challenged reads a parameter of the challenge in a 401 (RFC 9110 §11.6.1).
export function challenged(response: Response, name: string): string | undefined {
  const challenge = response.headers.get("WWW-Authenticate") ?? "";
  return new RegExp(`[\\s,]${name}=(?:"([^"]*)"|([^\\s",]+))`).exec(challenge)?.slice(1).find((value) => value !== undefined);
}

// fresher is the login that an API wants before it does this (RFC 9470 §3), as
// the library sends it, or undefined.
export function fresher(response: Response): { max_age?: number; acr_values?: string } | undefined {
  if (response.status !== 401 || challenged(response, "error") !== "insufficient_user_authentication") return undefined;
  const age = challenged(response, "max_age");
  return { max_age: age === undefined ? undefined : Number(age), acr_values: challenged(response, "acr_values") };
}
