/** What a command that talks to a server needs: which server, which key, and an interrupt that ends it cleanly. */
import { type ApiClient, createApiClient } from "./client/api-client.ts";
import { readCredentials } from "./credentials.ts";
import { CliError, exitCodes, usageError } from "./errors.ts";
import { note } from "./output.ts";

/** The options of every command that talks to a server. */
export interface ConnectionOptions {
  readonly apiUrl?: string;
  readonly json?: boolean;
}
export interface Endpoint {
  readonly url: string;
  readonly apiKey: string;
}

/**
 * Server: `--api-url` > `HELMR_API_URL` > the saved default. Key: `HELMR_API_KEY` > the one saved for that server.
 */
export async function resolveEndpoint(
  options: ConnectionOptions,
  env: NodeJS.ProcessEnv = process.env,
): Promise<Endpoint> {
  const credentials = await readCredentials();
  const given = options.apiUrl ?? (env.HELMR_API_URL || undefined) ?? credentials.default_url;
  if (given === undefined) {
    throw usageError(
      "no server is known",
      "start one with `helmr dev`, or name one with --api-url or HELMR_API_URL",
    );
  }
  const url = normalizeUrl(given);
  const apiKey = env.HELMR_API_KEY || credentials.hosts[url]?.api_key;
  if (apiKey === undefined) {
    throw new CliError(`there is no API key for ${url}`, {
      exitCode: exitCodes.auth,
      hint: "set HELMR_API_KEY; `helmr dev` saves the key of its own server",
    });
  }
  return { url, apiKey };
}

/** The base URL in one form; https anywhere, http only on this machine, since a key travels with every request. */
export function normalizeUrl(text: string): string {
  if (!URL.canParse(text))
    throw usageError(`${text} is not a URL`, "use a URL such as https://helmr.example.com");
  const url = new URL(text);
  const local =
    url.hostname === "localhost" || url.hostname === "[::1]" || /^127(\.\d+){3}$/.test(url.hostname);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && local)) {
    throw usageError(
      `${text} is refused: the API key would travel in the clear`,
      "use https; http is for this machine only",
    );
  }
  if (url.search !== "" || url.hash !== "" || url.username !== "" || url.password !== "") {
    throw usageError(
      "the server's URL must have no query, fragment or password",
      "give the key in HELMR_API_KEY",
    );
  }
  return url.href.replace(/\/+$/, "");
}

/**
 * Run `work` with a client. The first SIGINT or SIGTERM aborts what it waits for, so that temporary files are removed;
 * the second ends the process at once. `onInterrupt` is the hint the interrupted command leaves.
 */
export async function withApi<T>(
  options: ConnectionOptions,
  work: (api: ApiClient) => Promise<T>,
  onInterrupt?: () => string | undefined,
): Promise<T> {
  const endpoint = await resolveEndpoint(options);
  const controller = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => {
    const exitCode = signal === "SIGINT" ? exitCodes.interrupted : exitCodes.terminated;
    if (controller.signal.aborted) process.exit(exitCode);
    controller.abort(new CliError("interrupted", { exitCode, hint: onInterrupt?.() }));
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  try {
    return await work(createApiClient({ ...endpoint, signal: controller.signal }));
  } catch (error) {
    // What an abort surfaces as depends on where it struck; its reason says what happened.
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    process.off("SIGINT", interrupt).off("SIGTERM", interrupt);
  }
}

/** Said once per lost connection of a follow. */
export function noteReconnect(): void {
  note("connection lost, trying again");
}
