/**
 * What a command that talks to a server needs: which server, which credential, which routes, and an interrupt that ends
 * it cleanly.
 *
 * Server: `--api-url` > `HELMR_API_URL` > the saved default. The credential (contract 12), here and nowhere else:
 *
 *   command is about   HELMR_API_KEY  saved           --project, --env  it uses
 *   an environment     set            whatever        none              that key, unprefixed routes
 *   an environment     set            whatever        given             refused: a key names its own environment
 *   an environment     -              key, login      none              the saved key, unprefixed routes
 *   an environment     -              key, login      given             the login, routes of that environment
 *   an environment     -              login           both known        the login, routes of that environment
 *   an environment     -              key             given             refused, as above
 *   anything else      -              login           -                 the login
 *   anything else      set            whatever        -                 refused: the key wins, and cannot do it
 *
 * Known: the option > HELMR_PROJECT or HELMR_ENVIRONMENT > `project` of helmr.config.ts in a deploy > saved with the host.
 * The variables count as given where a saved key and a login are both there; beside HELMR_API_KEY they are not looked at.
 */
import { type ApiClient, createApiClient } from "./client/api-client.ts";
import { type HostCredential, readCredentials } from "./credentials.ts";
import { CliError, exitCodes, usageError } from "./errors.ts";
import { note } from "./output.ts";

/** The options of every command that talks to a server. */
export interface ConnectionOptions {
  readonly apiUrl?: string;
  readonly json?: boolean;
}
/** The options of every command that is about one environment. */
export interface EnvironmentOptions extends ConnectionOptions {
  readonly project?: string;
  readonly env?: string;
}
export interface Endpoint {
  readonly url: string;
  readonly token: string;
  /** Of the environment's routes; empty where the key names it. */
  readonly prefix: string;
}
type Env = NodeJS.ProcessEnv;

/** The server, and what is saved of it. */
export async function resolveHost(
  options: ConnectionOptions,
  env: Env = process.env,
): Promise<{ readonly url: string; readonly saved: HostCredential | undefined }> {
  const credentials = await readCredentials();
  const given = options.apiUrl ?? (env.HELMR_API_URL || undefined) ?? credentials.default_url;
  if (given === undefined) {
    throw usageError(
      "no server is known",
      "start one with `helmr dev`, or name one with --api-url or HELMR_API_URL",
    );
  }
  const url = normalizeUrl(given);
  return { url, saved: credentials.hosts[url] };
}

/** The table above, for a command about an environment. `projectOf` is asked where nothing more explicit names one. */
export async function resolveEnvironment(
  options: EnvironmentOptions,
  env: Env = process.env,
  projectOf?: () => Promise<string>,
): Promise<Endpoint> {
  const { url, saved } = await resolveHost(options, env);
  const byOption = options.project !== undefined || options.env !== undefined;
  const key = env.HELMR_API_KEY || undefined;
  if (key !== undefined) {
    if (byOption)
      throw keyNamesEnvironment("HELMR_API_KEY is set", "unset HELMR_API_KEY to use your login instead");
    return { url, token: key, prefix: "" };
  }
  const asked = byOption || Boolean(env.HELMR_PROJECT) || Boolean(env.HELMR_ENVIRONMENT);
  if (saved?.session_token === undefined || (saved.api_key !== undefined && !asked)) {
    if (saved?.api_key === undefined) throw notSignedIn(url);
    if (byOption)
      throw keyNamesEnvironment(`only an API key is saved for ${url}`, "sign in first: `helmr login`");
    return { url, token: saved.api_key, prefix: "" };
  }
  const prefix = await environmentPrefix(options, env, saved, projectOf);
  return { url, token: saved.session_token, prefix };
}

/** The table above, for a command that only a signed-in person may run. */
export async function resolveLogin(options: ConnectionOptions, env: Env = process.env): Promise<Endpoint> {
  const { url, saved } = await resolveHost(options, env);
  if (env.HELMR_API_KEY) {
    throw new CliError("HELMR_API_KEY is set, and an API key cannot do this: it needs a person's login", {
      exitCode: exitCodes.auth,
      hint: "unset HELMR_API_KEY to use the login that `helmr login` saves",
    });
  }
  if (saved?.session_token === undefined) throw notSignedIn(url);
  return { url, token: saved.session_token, prefix: "" };
}

/** As `resolveLogin`, on the routes of an environment that only members may use. */
export async function resolveMember(options: EnvironmentOptions, env: Env = process.env): Promise<Endpoint> {
  const { saved } = await resolveHost(options, env);
  return { ...(await resolveLogin(options, env)), prefix: await environmentPrefix(options, env, saved) };
}

async function environmentPrefix(
  options: EnvironmentOptions,
  env: Env,
  saved: HostCredential | undefined,
  projectOf?: () => Promise<string>,
): Promise<string> {
  const project = options.project ?? (env.HELMR_PROJECT || (await projectOf?.()) || saved?.project);
  const environment = options.env ?? (env.HELMR_ENVIRONMENT || saved?.environment);
  if (project === undefined) throw missing("project", "--project", "HELMR_PROJECT", "helmr project list");
  if (environment === undefined) throw missing("environment", "--env", "HELMR_ENVIRONMENT", "helmr env list");
  return `/projects/${encodeURIComponent(project)}/environments/${encodeURIComponent(environment)}`;
}

/** The project that a command about environments is told, by the same rules as `environmentPrefix`. */
export async function resolveProject(options: EnvironmentOptions, env: Env = process.env): Promise<string> {
  const { saved } = await resolveHost(options, env);
  const project = options.project ?? (env.HELMR_PROJECT || saved?.project);
  if (project === undefined) throw missing("project", "--project", "HELMR_PROJECT", "helmr project list");
  return project;
}

function notSignedIn(url: string): CliError {
  return new CliError(`you are not signed in to ${url}`, {
    exitCode: exitCodes.auth,
    hint: "`helmr login` signs you in; programs set HELMR_API_KEY",
  });
}

function keyNamesEnvironment(why: string, hint: string): CliError {
  return usageError(`--project and --env are refused: ${why}, and an API key has one environment`, hint);
}

function missing(what: string, option: string, variable: string, command: string): CliError {
  return usageError(
    `which ${what} is not known`,
    `name it with ${option} or ${variable} (\`${command}\` shows them), or save it: \`helmr host use <url> ${option} <${what}>\``,
  );
}

/** The base URL in one form; https anywhere, http only on this machine, since a credential travels with every request. */
export function normalizeUrl(text: string): string {
  if (!URL.canParse(text))
    throw usageError(`${text} is not a URL`, "use a URL such as https://helmr.example.com");
  const url = new URL(text);
  const local =
    url.hostname === "localhost" || url.hostname === "[::1]" || /^127(\.\d+){3}$/.test(url.hostname);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && local)) {
    throw usageError(
      `${text} is refused: the credential would travel in the clear`,
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

/** What an interrupted command leaves as a hint. */
type OnInterrupt = () => string | undefined;

/** Run `work` with a client of the environment (table above). Interrupts: see `interruptible`. */
export function withApi<T>(
  options: EnvironmentOptions,
  work: (api: ApiClient) => Promise<T>,
  onInterrupt?: OnInterrupt,
  projectOf?: () => Promise<string>,
): Promise<T> {
  return interruptible(
    async (signal) =>
      work(createApiClient({ ...(await resolveEnvironment(options, process.env, projectOf)), signal })),
    onInterrupt,
  );
}

/** A client of the environment (table above) whose requests end with `signal`; interrupts are the caller's. */
export async function environmentApi(options: EnvironmentOptions, signal: AbortSignal): Promise<ApiClient> {
  return createApiClient({ ...(await resolveEnvironment(options)), signal });
}

/** Run `work` with a client that acts as the signed-in person. */
export function withLogin<T>(options: ConnectionOptions, work: (api: ApiClient) => Promise<T>): Promise<T> {
  return interruptible(async (signal) => work(createApiClient({ ...(await resolveLogin(options)), signal })));
}

/** Run `work` with a client that operates the installation: by HELMR_OPERATOR_TOKEN, else as the signed-in person. */
export function withOperator<T>(
  options: ConnectionOptions,
  work: (api: ApiClient) => Promise<T>,
): Promise<T> {
  return interruptible(async (signal) =>
    work(createApiClient({ ...(await resolveOperator(options)), signal })),
  );
}

async function resolveOperator(options: ConnectionOptions, env: Env = process.env): Promise<Endpoint> {
  const token = env.HELMR_OPERATOR_TOKEN;
  if (!token) return await resolveLogin(options, env);
  return { url: (await resolveHost(options, env)).url, token, prefix: "" };
}

/** As `withLogin`, on the routes of an environment. */
export function withMember<T>(options: EnvironmentOptions, work: (api: ApiClient) => Promise<T>): Promise<T> {
  return interruptible(async (signal) =>
    work(createApiClient({ ...(await resolveMember(options)), signal })),
  );
}

/**
 * The first SIGINT or SIGTERM aborts what `work` waits for, so that temporary files are removed; the second ends the
 * process at once. `onInterrupt` is the hint the interrupted command leaves.
 */
export async function interruptible<T>(
  work: (signal: AbortSignal) => Promise<T>,
  onInterrupt?: OnInterrupt,
): Promise<T> {
  const controller = new AbortController();
  const interrupt = (signal: NodeJS.Signals): void => {
    const exitCode = signal === "SIGINT" ? exitCodes.interrupted : exitCodes.terminated;
    if (controller.signal.aborted) process.exit(exitCode);
    controller.abort(new CliError("interrupted", { exitCode, hint: onInterrupt?.() }));
  };
  process.on("SIGINT", interrupt).on("SIGTERM", interrupt);
  try {
    return await work(controller.signal);
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
