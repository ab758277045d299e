import { ErrorResponse } from "oidc-client-ts";

// The little that the page needs of the DOM. Text is always text: nothing is
// ever parsed as HTML.

export function byID(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

export function button(text: string, style: string, action: () => void, needs = ""): HTMLButtonElement {
  const b = document.createElement("button");
  b.type = "button";
  b.textContent = text;
  if (style) b.className = style;
  if (needs) b.dataset.needs = needs;
  b.addEventListener("click", action);
  return b;
}

// note adds an entry on top of the log.
export function note(kind: "good" | "bad", what: string, text: string): void {
  const entry = document.createElement("li");
  entry.className = kind;
  const label = document.createElement("small");
  label.textContent = `${what} · ${kind === "good" ? "worked" : "failed"}`;
  entry.append(label, text);
  byID("log").prepend(entry);
}

// describe says what an error means to a reader.
export function describe(error: unknown): string {
  if (error instanceof ErrorResponse) return refused(error);
  // The library's error for a refusal that came with a nonce: its text is the
  // answer.
  if (error instanceof Error && error.name === "ErrorDPoPNonce") return refused(JSON.parse(error.message));
  if (error instanceof Error && error.message.includes("No matching state")) {
    return "This app refused the code: it did not ask for this login (no matching state), so somebody else did. The code is useless without the verifier that the other page kept.";
  }
  if (error instanceof DOMException && error.name === "InvalidAccessError") return `The browser does not give it away (${error.message}).`;
  if (error instanceof TypeError) return "The browser did not let this page read an answer: its origin is not allowed (CORS).";
  return error instanceof Error ? error.message : String(error);
}

function refused(answer: { error?: string | null; error_description?: string | null }): string {
  return `The login server refused (${answer.error}${answer.error_description ? `: ${answer.error_description}` : ""}).`;
}

// decode reads a JWT's payload. The app only shows it: it is the API that
// checks it.
export function decode(token: string): Record<string, unknown> {
  const payload = token.split(".")[1] ?? "";
  const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return JSON.parse(new TextDecoder().decode(bytes));
}

const times = new Set(["exp", "iat", "auth_time"]);

// list shows claims under a title.
export function list(title: string, claims: Record<string, unknown>): HTMLElement[] {
  const head = document.createElement("h3");
  head.textContent = title;
  const all = document.createElement("dl");
  for (const [name, value] of Object.entries(claims)) {
    const term = document.createElement("dt");
    term.textContent = name;
    const text = document.createElement("dd");
    text.textContent = times.has(name) ? `${new Date(Number(value) * 1000).toLocaleString()}` : typeof value === "string" ? value : JSON.stringify(value);
    all.append(term, text);
  }
  return [head, all];
}

// verbatim shows a long text behind its title.
export function verbatim(title: string, text: string): HTMLElement {
  const box = document.createElement("details");
  const head = document.createElement("summary");
  head.textContent = title;
  const shown = document.createElement("code");
  shown.textContent = text;
  box.append(head, shown);
  return box;
}
