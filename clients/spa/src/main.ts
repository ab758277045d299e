import { UserManager, WebStorageStateStore, InMemoryWebStorage, type User } from "oidc-client-ts";
import { attempts } from "./copy";
import { button, byID, decode, describe, list, note } from "./page";

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

// Tokens live in memory only: a reload forgets them, and the session at the
// login server brings them back without a password. What waits for the answer
// of a login (state, PKCE verifier) is in this tab's session storage.
const manager = new UserManager({
  authority: config.issuer,
  client_id: config.clientId,
  redirect_uri: config.redirectUri,
  post_logout_redirect_uri: config.postLogoutRedirectUri,
  scope: config.scope,
  userStore: new WebStorageStateStore({ store: new InMemoryWebStorage() }),
  stateStore: new WebStorageStateStore({ store: sessionStorage }),
  automaticSilentRenew: true,
  validateSubOnSilentRenew: true,
  revokeTokensOnSignout: true,
  loadUserInfo: true,
  monitorSession: false,
});

let user: User | null = null;

function show(): void {
  byID("who").textContent = user ? `Signed in as ${user.profile.preferred_username ?? user.profile.sub}` : "Not signed in";
  for (const b of document.querySelectorAll<HTMLButtonElement>("#actions button")) {
    b.disabled = (b.dataset.needs === "user" && !user) || (b.dataset.needs === "nobody" && !!user);
  }
  byID("tokens").hidden = !user;
  const claims = byID("claims");
  claims.replaceChildren();
  if (user) {
    claims.append(...list("Access token: for the API", decode(user.access_token)));
    if (user.id_token) claims.append(...list("ID token: for this app", decode(user.id_token)));
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

async function call(method: string, body?: object): Promise<string> {
  const response = await fetch(`${config.api}/api/notes`, {
    method,
    headers: { Authorization: `Bearer ${current().access_token}`, ...(body ? { "Content-Type": "application/json" } : {}) },
    body: body ? JSON.stringify(body) : undefined,
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`The API answered ${response.status}: ${response.headers.get("WWW-Authenticate") ?? text}`);
  return `The API answered ${response.status}: ${text}`;
}

const actions = byID("actions");
actions.append(
  button("Sign in", "first", () => run("Sign in", async () => {
    await manager.signinRedirect();
    return "Going to the login server.";
  }), "nobody"),
  button("Call the API", "", () => run("Call the API", () => call("GET")), "user"),
  button("Write a note", "", () => run("Write a note", () => call("POST", { text: `Written at ${new Date().toLocaleTimeString()}` })), "user"),
  button("Refresh", "", () => run("Refresh", async () => {
    user = await manager.signinSilent();
    return "A new access token and a new refresh token; the old refresh token is spent.";
  }), "user"),
  button("Revoke", "", () => run("Revoke", async () => {
    const revoked = current().refresh_token;
    await manager.revokeTokens(["refresh_token"]);
    // The library forgets what it revoked. This page keeps it, so that Refresh
    // shows what the login server says to it.
    const kept = await manager.getUser();
    if (kept) {
      kept.refresh_token = revoked;
      await manager.storeUser(kept);
      user = kept;
    }
    return "The refresh token and everything that came of it is dead. The access token runs out within minutes: try Refresh.";
  }), "user"),
  button("Sign out", "", () => run("Sign out", async () => {
    await manager.signoutRedirect();
    return "Going to the login server.";
  }), "user"),
);

manager.events.addUserLoaded((loaded) => {
  user = loaded;
  show();
});
manager.events.addSilentRenewError((error) => note("bad", "Renewal", describe(error)));

byID("lead").textContent = genuine
  ? `Served at ${location.origin}, the one origin that is registered for it.`
  : `Served at ${location.origin}. These are the same files, byte for byte, at another origin.`;

if (!genuine) {
  document.title = "Notes (a copy)";
  byID("banner").textContent = `This is a copy. The registered app is at ${new URL(config.redirectUri).origin}.`;
  byID("copy").hidden = false;
  byID("attempts").append(...attempts(config, (what, action) => run(what, action)));
}

show();
const answer = new URLSearchParams(location.search);
if (location.pathname === new URL(config.redirectUri).pathname && (answer.has("code") || answer.has("error"))) {
  await run("Back from the login", async () => {
    try {
      user = await manager.signinRedirectCallback();
      return `The code was exchanged for tokens. Welcome, ${user.profile.preferred_username ?? user.profile.sub}.`;
    } finally {
      // The code is spent or useless; the address bar need not show it.
      history.replaceState(null, "", "/");
    }
  });
}
document.documentElement.dataset.ready = "true";
