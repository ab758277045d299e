import { ErrorResponse, type User } from "oidc-client-ts";
import { call, fresher } from "./call";
import { attempts, theft } from "./copy";
import { hammer } from "./hammer";
import { button, byID, decode, describe, list, note, verbatim } from "./page";
import { keys, Session } from "./session";

// What the page is told by whoever serves it. It holds no secret.
export interface Config {
  issuer: string;
  clientId: string;
  api: string;
  redirectUri: string;
  postLogoutRedirectUri: string;
  scope: string;
}

const config: Config = await (await fetch("/config.json")).json();
const genuine = new URL(config.redirectUri).origin === location.origin;
const session = new Session(config);
const notes = `${config.api}/api/notes`;

let user: User | null = null;
let name = "";
let key: Record<string, unknown> = {};

// adopt makes the page show somebody, or nobody.
async function adopt(loaded: User | null): Promise<void> {
  const known = user !== null && user.profile.sub === loaded?.profile.sub;
  user = loaded;
  if (user) {
    const pair = (await keys.get(config.clientId))?.keys;
    key = { "token type": user.token_type, "key thumbprint": await session.thumbprint(), "private key": `in IndexedDB, extractable: ${pair?.privateKey.extractable}` };
  }
  if (user && !known) {
    name = user.profile.sub;
    name = await whoIs(user);
  }
  show();
}

// whoIs asks the login server. The library would do so without a proof.
async function whoIs(who: User): Promise<string> {
  try {
    const response = await call(session, who, "GET", await session.metadataService.getUserInfoEndpoint());
    if (!response.ok) throw new Error(`The login server answered ${response.status}: ${response.headers.get("WWW-Authenticate") ?? ""}`);
    const claims: Record<string, string> = await response.json();
    return claims["preferred_username"] ?? who.profile.sub;
  } catch (error) {
    note("bad", "Who is signed in", describe(error));
    return who.profile.sub;
  }
}

function show(): void {
  byID("who").textContent = user ? `Signed in as ${name}` : "Not signed in";
  for (const b of document.querySelectorAll<HTMLButtonElement>("#actions button")) {
    b.disabled = (b.dataset.needs === "user" && !user) || (b.dataset.needs === "nobody" && !!user);
  }
  byID("tokens").hidden = !user;
  const claims = byID("claims");
  claims.replaceChildren();
  if (user) {
    claims.append(...list("What they are bound to", key), ...list("Access token: for the API", decode(user.access_token)));
    if (user.id_token) claims.append(...list("ID token: for this app", decode(user.id_token)));
    claims.append(verbatim("The access token itself, for whoever would steal it", user.access_token));
  }
}

async function run(what: string, action: () => Promise<string>): Promise<void> {
  try {
    note("good", what, await action());
  } catch (error) {
    note("bad", what, describe(error));
  }
  show();
}

function current(): User {
  if (!user) throw new Error("Nobody is signed in.");
  return user;
}

async function said(response: Response): Promise<string> {
  const text = await response.text();
  if (!response.ok) throw new Error(`The API answered ${response.status}: ${response.headers.get("WWW-Authenticate") ?? text}`);
  return `The API answered ${response.status}${text ? `: ${text}` : "."}`;
}

// deleteNotes deletes what can't be brought back, so the API wants to know that
// it is still the person: it asks for a login of the last minute (RFC 9470).
// The page goes for one, and does it then.
async function deleteNotes(back = false): Promise<string> {
  const response = await call(session, current(), "DELETE", notes);
  const login = fresher(response);
  if (!login || back) return said(response);
  await session.signinRedirect({ ...login, state: "delete" });
  return "The API wants a fresh login: going to the login server.";
}

const actions = byID("actions");
actions.append(
  button("Sign in", "first", () => run("Sign in", async () => {
    await session.signinRedirect();
    return "Going to the login server.";
  }), "nobody"),
  button("Call the API", "", () => run("Call the API", async () => said(await call(session, current(), "GET", notes))), "user"),
  button("Write a note", "", () => run("Write a note", async () => said(await call(session, current(), "POST", notes, { text: `Written at ${new Date().toLocaleTimeString()}` }))), "user"),
  button("Delete all notes", "", () => run("Delete all notes", deleteNotes), "user"),
  button("Refresh", "", () => run("Refresh", async () => {
    const before = current().access_token;
    const after = await session.signinSilent();
    return after?.access_token === before ? "Nothing new came." : "A new access token and a new refresh token; the old refresh token is spent.";
  }), "user"),
  button("Hammer the API", "", () => run("Hammer the API", () => hammer(session, current(), notes)), "user"),
  button("Export the key", "", () => run("Export the key", async () => {
    const { privateKey } = (await keys.get(config.clientId)).keys;
    return `The browser gave it away: ${JSON.stringify(await crypto.subtle.exportKey("jwk", privateKey))}`;
  }), "user"),
  button("Revoke", "", () => run("Revoke", async () => {
    const revoked = current().refresh_token;
    await session.revokeTokens(["refresh_token"]);
    // The library forgets what it revoked. This page keeps it, so that Refresh
    // shows what the login server says to it.
    const kept = await session.getUser();
    if (kept) {
      kept.refresh_token = revoked;
      await session.storeUser(kept);
      user = kept;
    }
    return "The refresh token and everything that came of it is dead. The access token runs out within minutes: try Refresh.";
  }), "user"),
  button("Sign out", "", () => run("Sign out", async () => {
    await session.signoutRedirect();
    return "Going to the login server.";
  }), "user"),
);

// renew is for a token that ran out while nobody looked, as when the machine
// slept. A login that has ended meanwhile is over. One whose server is busy, or
// says that this account has to wait, is not: its refresh token is still good.
async function renew(): Promise<void> {
  try {
    await session.signinSilent();
  } catch (error) {
    note("bad", "Renewal", describe(error));
    if (error instanceof ErrorResponse && error.error === "temporarily_unavailable") setTimeout(renew, 60_000);
    else if (!(error instanceof TypeError)) await session.removeUser(); // else the network is down
  }
}

session.events.addUserLoaded(adopt);
session.events.addUserUnloaded(() => adopt(null));
session.events.addAccessTokenExpired(renew);
session.events.addSilentRenewError((error) => note("bad", "Renewal", describe(error)));

byID("lead").textContent = genuine
  ? `Served at ${location.origin}, the one origin that is registered for it.`
  : `Served at ${location.origin}. These are the same files, byte for byte, at another origin.`;

if (!genuine) {
  document.title = "Notes (a copy)";
  byID("banner").textContent = `This is a copy. The registered app is at ${new URL(config.redirectUri).origin}.`;
  byID("copy").hidden = false;
  byID("attempts").append(...attempts(config, run));
  byID("attempts").after(...theft(run));
}

show();
const answer = new URLSearchParams(location.search);
if (location.pathname === new URL(config.redirectUri).pathname && (answer.has("code") || answer.has("error"))) {
  await run("Back from the login", async () => {
    try {
      // RFC 9207 §2.4: an answer of another server is not for this one.
      if (answer.get("iss") !== config.issuer) throw new Error("This answer does not come from the login server (iss).");
      const back = await session.signinRedirectCallback();
      // RFC 9449 §5: whoever needs bound tokens looks at the type.
      if (back.token_type !== "DPoP") {
        await session.removeUser();
        throw new Error(`The tokens are not bound to the key: their type is ${back.token_type}.`);
      }
      return `The code was exchanged for tokens. Welcome, ${name}.`;
    } finally {
      // The code is spent or useless; the address bar need not show it.
      history.replaceState(null, "", "/");
    }
  });
  if (user && (user as User).state === "delete") await run("Delete all notes", () => deleteNotes(true));
} else {
  const stored = await session.getUser();
  if (stored?.expired) await renew();
  else await adopt(stored);
}
document.documentElement.dataset.ready = "true";
