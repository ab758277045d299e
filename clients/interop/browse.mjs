import { createInterface } from "node:readline/promises";

// browse sends somebody to sign in, and returns the address that the browser
// ends at. A web app redirects instead, and is called back.
export async function browse(url) {
  console.log(`Open ${url.href}`);
  const terminal = createInterface({ input: process.stdin });
  const { value } = await terminal[Symbol.asyncIterator]().next();
  terminal.close();
  return new URL(value);
}
