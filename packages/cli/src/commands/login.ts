/**
 * `helmr login`: a person approves this command line in a browser, here or elsewhere, and it keeps a session.
 *
 * With `--json` two lines: what a person needs ({user_code, verification_uri, …}, as the server sends it, without the
 * device code), then who is signed in ({api_url, …} with the fields of GET /api/me).
 */
import type { Command } from "commander";
import { createApiClient } from "../client/api-client.ts";
import { type DeviceCodeStart, pollForToken, startDeviceFlow } from "../client/device-flow.ts";
import { revokeSession } from "../client/logout.ts";
import { connected, declare } from "../command.ts";
import { type ConnectionOptions, interruptible, resolveHost } from "../context.ts";
import { credentialsPath, saveHost } from "../credentials.ts";
import { note, paint, plain, writeJsonLine } from "../output.ts";
import { nextSteps } from "../who.ts";

type LoginOptions = ConnectionOptions & { readonly browser: boolean };

export function register(program: Command): void {
  connected(
    declare(program, "login", "Sign in to a server: approve a code in a browser, here or elsewhere", [
      "helmr login --api-url https://helmr.example.com",
      "helmr login --no-browser",
    ]),
  )
    .option("--no-browser", "only print the address; open no browser")
    .action(login);
}

const login = (options: LoginOptions): Promise<void> => {
  let isSaved = false;
  return interruptible(
    async (signal) => {
      const { url } = await resolveHost(options);
      const open = createApiClient({ url, signal });
      const started = await startDeviceFlow(open);
      await showCode(started, options);
      const token = await pollForToken(open, started);
      // Read now: minutes have passed.
      const { saved } = await resolveHost({ ...options, apiUrl: url });
      await saveHost(url, { ...saved, session_token: token });
      isSaved = true;
      // The login before this one would live on for 30 days without anybody knowing of it.
      if (saved?.session_token !== undefined) await revokeSession(url, saved.session_token, signal);
      const me = await createApiClient({ url, token, signal }).get("/me", { schema: "me" });
      if (options.json) await writeJsonLine({ api_url: url, ...me });
      else note(`${paint("green", "signed in", process.stderr)} to ${url} as ${plain(me.display_name)}`);
      note(paint("dim", `saved in ${credentialsPath()}`, process.stderr));
      if (process.env.HELMR_API_KEY) note("hint: HELMR_API_KEY is set, and wins over this login");
      for (const step of nextSteps(me)) note(`hint: ${step}`);
    },
    () =>
      isSaved
        ? "you are signed in; `helmr whoami` shows as whom"
        : "nothing was saved; do not approve the code any more",
  );
};

async function showCode(started: DeviceCodeStart, options: LoginOptions): Promise<void> {
  const { device_code: _, ...shown } = started;
  if (options.json) await writeJsonLine(shown);
  const address = webAddress(started.verification_uri_complete ?? started.verification_uri);
  note(
    `Open ${plain(started.verification_uri)}\nand enter ${paint("bold", plain(started.user_code), process.stderr)}`,
  );
  if (options.browser && process.stderr.isTTY && address !== undefined) await openBrowser(address);
  note(paint("dim", "waiting for approval (Ctrl-C ends it)", process.stderr));
}

/** Only a web page is opened: the address comes from the server, and other schemes start other programs. */
function webAddress(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const url = new URL(text);
  return url.protocol === "https:" || url.protocol === "http:" ? url.href : undefined;
}

/** Where no browser can be opened (no display, no program), the printed address is enough. */
async function openBrowser(address: string): Promise<void> {
  const hasDisplay =
    process.platform !== "linux" || Boolean(process.env.DISPLAY || process.env.WAYLAND_DISPLAY);
  if (!hasDisplay) return;
  try {
    const { default: open } = await import("open");
    const child = await open(address);
    child.once("error", () => undefined);
  } catch {
    note("no browser could be opened: open the address yourself");
  }
}
