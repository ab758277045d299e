import type { Config } from "./main";
import { button, byID, decode } from "./page";

type Run = (what: string, action: () => Promise<string>) => Promise<void>;

// request is an authorization request of the registered client.
async function request(config: Config, redirectUri: string, more: Record<string, string> = {}): Promise<string> {
  const verifier = crypto.randomUUID() + crypto.randomUUID();
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier));
  const challenge = btoa(String.fromCharCode(...new Uint8Array(digest))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const query = new URLSearchParams({
    response_type: "code", client_id: config.clientId, redirect_uri: redirectUri, scope: config.scope,
    state: crypto.randomUUID(), code_challenge: challenge, code_challenge_method: "S256", ...more,
  });
  return `${config.issuer}/authorize?${query}`;
}

// framed shows an address in a frame of this page and says what this page can
// see of it.
function framed(src: string, hidden = false): Promise<string> {
  const frame = document.createElement("iframe");
  frame.title = "the login page in a frame";
  frame.hidden = hidden;
  byID("stage").replaceChildren(frame);
  const told = new Promise<string>((resolve) => {
    const heard = (event: MessageEvent) => {
      if (event.source === frame.contentWindow) resolve(`a message: ${JSON.stringify(event.data)}`);
    };
    addEventListener("message", heard);
    frame.addEventListener("load", () => setTimeout(() => {
      removeEventListener("message", heard);
      resolve("");
    }, 500));
  });
  frame.src = src;
  return told.then((message) => {
    if (message) return `It told this page ${message}.`;
    throw new Error("The browser refused to show the login server in a frame (frame-ancestors), and nothing came back to this page.");
  });
}

// replay has the server that serves this page send a stolen token to the API:
// no browser is in its way, and it may send what it likes.
async function replay(token: string): Promise<string> {
  if (!token) throw new Error("Put the access token in the field first: the app shows it at the bottom.");
  const response = await fetch("/replay", { method: "POST", body: token });
  if (!response.ok) throw new Error(await response.text());
  const answers: { how: string; status: number; says: string }[] = await response.json();
  const text = answers.map((a) => `${a.how}: ${a.status}${a.says ? `, ${a.says}` : ", and the notes."}`).join("\n");
  if (answers.some((a) => a.status < 400)) return text;
  const why = bound(token) ? "\nIt is bound to a key (cnf), which is in the browser of the app's user and stays there." : "";
  throw new Error(`This page's server sent it to the API, from outside of any browser.\n${text}${why}`);
}

function bound(token: string): boolean {
  try {
    return "cnf" in decode(token);
  } catch {
    return false; // it is no token
  }
}

// theft is where a stolen token is put, and what is tried with it.
export function theft(run: Run): HTMLElement[] {
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.id = "stolen";
  input.autocomplete = "off";
  input.spellcheck = false;
  label.append("An access token from the app", input);
  const buttons = document.createElement("div");
  buttons.className = "buttons";
  const what = "Use a token stolen from the app";
  buttons.append(button(what, "", () => void run(what, () => replay(input.value.trim()))));
  return [label, buttons];
}

// attempts are what a copy of an app can try. Each one throws when it fails,
// as it should.
export function attempts(config: Config, run: Run): HTMLButtonElement[] {
  const attempt = (what: string, action: () => Promise<string>) => button(what, "", () => void run(what, action));
  return [
    attempt("Sign in with my own redirect URI", async () => {
      location.assign(await request(config, `${location.origin}/callback`));
      return "Going to the login server: watch what it says.";
    }),
    attempt("Sign in with the genuine redirect URI", async () => {
      location.assign(await request(config, config.redirectUri));
      return "Going to the login server: the code will go to the genuine app, which refuses it.";
    }),
    attempt("Frame the login page", async () => framed(await request(config, config.redirectUri))),
    attempt("Renew silently in a hidden frame", async () => framed(await request(config, config.redirectUri, { prompt: "none" }), true)),
    attempt("Open the login page in a pop-up", async () => {
      const popup = open(await request(config, config.redirectUri), "login", "popup,width=480,height=640");
      if (!popup) throw new Error("The browser blocked the pop-up.");
      for (let i = 0; i < 50 && !popup.closed; i++) await new Promise((next) => setTimeout(next, 100));
      if (popup.closed) throw new Error("The handle on the pop-up was cut (Cross-Origin-Opener-Policy): this page can neither watch nor steer it.");
      return "This page still holds the pop-up.";
    }),
    attempt("Ask for tokens", async () => {
      const body = new URLSearchParams({ grant_type: "refresh_token", client_id: config.clientId, refresh_token: "x" });
      const response = await fetch(`${config.issuer}/token`, { method: "POST", body });
      return `The login server answered ${response.status}: ${await response.text()}`;
    }),
    attempt("Ask who is signed in", async () => {
      const response = await fetch(`${config.issuer}/userinfo`, { headers: { Authorization: "Bearer x" }, credentials: "include" });
      return `The login server answered ${response.status}: ${await response.text()}`;
    }),
    attempt("Call the API", async () => {
      const response = await fetch(`${config.api}/api/notes`, { headers: { Authorization: "Bearer x" } });
      return `The API answered ${response.status}: ${await response.text()}`;
    }),
  ];
}
