import type { User } from "oidc-client-ts";
import { call, challenged } from "./call";
import { describe, note } from "./page";
import type { Session } from "./session";

const longest = 30_000; // milliseconds, in case that nothing ever stops it

// hammer asks the API as fast as it can, as an app that runs wild would, until
// the API refuses the token. It shows each kind of answer when it comes first,
// and then what the login server has to say. No app needs this: it is here to
// be watched.
export async function hammer(session: Session, user: User, url: string): Promise<string> {
  const what = "Hammer the API";
  const answers = new Map<number, number>();
  const began = Date.now();
  for (let n = 1; Date.now() - began < longest; n++) {
    const response = await call(session, user, "GET", url);
    answers.set(response.status, (answers.get(response.status) ?? 0) + 1);
    if (answers.get(response.status) === 1) note(response.ok ? "good" : "bad", what, `${clock()} Request ${n}: ${meaning(response)}`);
    if (response.status === 401) return `${[...answers].map(([status, times]) => `${times} times ${status}`).join(", ")}. ${await over(session)}`;
  }
  throw new Error(`For ${longest / 1000} seconds, and nobody minds.`);
}

function meaning(response: Response): string {
  const header = (name: string) => `${name}: ${response.headers.get(name)}`;
  switch (response.status) {
    case 200: return `200. ${header("RateLimit")}`;
    case 429: return `429, too many requests. ${header("Retry-After")}, ${header("RateLimit")}. The API answers no more than that, and reports the account.`;
    case 401: return `401. ${challenged(response, "error_description")}`;
    default: return `${response.status}.`;
  }
}

// over shows what became of the login, and forgets it if it has ended, too.
async function over(session: Session): Promise<string> {
  try {
    await session.signinSilent();
    return "The login goes on: there are new tokens.";
  } catch (error) {
    note("bad", "Refresh", `${clock()} ${describe(error)}`);
    await session.removeUser();
    return "Now press Sign in: the login page says why.";
  }
}

// clock is the time to the millisecond, as the login server's log has it.
function clock(): string {
  const now = new Date();
  return `${now.toTimeString().slice(0, 8)}.${String(now.getMilliseconds()).padStart(3, "0")}`;
}
