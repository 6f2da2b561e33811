/** Signing in by a link that no mail carried: for tests of what comes after. */
import { createMagicLink } from "@helmr/store";
import { type Browser, newBrowser } from "./browser.ts";
import type { TestServer } from "./server.ts";

/** The token of a link for the address. */
export async function newLink({ db }: TestServer, email: string, redirectAfter = "/"): Promise<string> {
  return await createMagicLink(db, { email, redirectAfter });
}

/** A browser in which the address's user is signed in. */
export async function signedInBrowser(server: TestServer, email: string): Promise<Browser> {
  const browser = newBrowser(server);
  const answer = await browser.post("/auth/magic-link/finish", { token: await newLink(server, email) });
  if (answer.status !== 200) throw new Error(`the sign-in failed: ${JSON.stringify(answer.body)}`);
  return browser;
}
