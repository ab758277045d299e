import { IndexedDbDPoPStore, UserManager, WebStorageStateStore, type SigninRedirectArgs, type SigninSilentArgs, type User } from "oidc-client-ts";
import type { Config } from "./main";

// keys holds the key that every token is bound to (DPoP, RFC 9449). It is in
// IndexedDB as an object, not as bytes: a script can sign with it while it is
// on this page, and can't take it along.
export const keys = new IndexedDbDPoPStore();

// alone waits until no other tab of the app is inside.
async function alone<T>(act: () => Promise<T>): Promise<T> {
  return await navigator.locks.request("session", act);
}

// Session is the library's UserManager for an app that is open in many tabs.
//
// The tokens are in local storage, which all tabs share and which outlives a
// reload. That would be careless with bearer tokens; these are worth nothing
// without the key. Session storage would be worse: a tab that is duplicated
// takes a copy of the refresh token along, and to the server the slower of the
// two looks like a thief. What waits for the answer of a login (state, PKCE
// verifier) is for one tab alone.
export class Session extends UserManager {
  constructor(config: Config) {
    super({
      authority: config.issuer,
      client_id: config.clientId,
      redirect_uri: config.redirectUri,
      post_logout_redirect_uri: config.postLogoutRedirectUri,
      scope: config.scope,
      dpop: { bind_authorization_code: true, store: keys },
      userStore: new WebStorageStateStore({ store: localStorage }),
      stateStore: new WebStorageStateStore({ store: sessionStorage }),
      automaticSilentRenew: true,
      revokeTokensOnSignout: true,
      loadUserInfo: false, // the library would ask without a proof
      monitorSession: false,
    });
    addEventListener("storage", (event) => {
      if (event.key === `oidc.${this._userStoreKey}`) void this.follow();
    });
  }

  // follow takes over what another tab has stored.
  private async follow(): Promise<void> {
    if (!(await this.getUser(true))) await this.events.unload();
  }

  // thumbprint is the key's (RFC 7638). There is one from here on.
  async thumbprint(): Promise<string> {
    return (await this.generateDPoPJkt(this.settings.dpop!)) ?? "";
  }

  override async signinRedirect(args?: SigninRedirectArgs): Promise<void> {
    // Two tabs that make a key at once would each name one, and keep one.
    await alone(() => this.thumbprint());
    return super.signinRedirect(args);
  }

  override signinRedirectCallback(url?: string): Promise<User> {
    return alone(() => super.signinRedirectCallback(url));
  }

  // There is one refresh token for all tabs: one of them spends it, and those
  // that wanted to take what it got.
  override async signinSilent(args?: SigninSilentArgs): Promise<User | null> {
    const before = await this.getUser();
    return alone(async () => {
      const now = await this.getUser();
      if (now?.access_token !== before?.access_token) {
        await this.follow();
        return now;
      }
      return super.signinSilent(args);
    });
  }
}
