/**
 * What the user's machine remembers of servers: `credentials.json` in the configuration folder (XDG), mode 0600.
 *
 *   {"version": 1, "default_url": "http://127.0.0.1:4747",
 *    "hosts": {"http://127.0.0.1:4747": {"api_key": "…", "session_token": "…", "project": "…", "environment": "…"}}}
 *
 * A host has an API key (`helmr dev` saves its own), a session token (`helmr login`), or both; project and environment
 * are what commands take where nothing names others. Written as a whole through a temporary file and a rename, so that a
 * reader never sees half of it.
 */
import { randomUUID } from "node:crypto";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import envPaths from "env-paths";
import { CliError, messageOf } from "./errors.ts";

export interface HostCredential {
  readonly api_key?: string;
  readonly session_token?: string;
  readonly project?: string;
  readonly environment?: string;
}
export interface Credentials {
  readonly version: 1;
  readonly default_url?: string;
  readonly hosts: Readonly<Record<string, HostCredential>>;
}

/** Where the credentials lie: `$XDG_CONFIG_HOME/helmr/credentials.json`, or the platform's equivalent. */
export function credentialsPath(): string {
  return join(envPaths("helmr", { suffix: "" }).config, "credentials.json");
}

/** The saved credentials; none yet is an empty record. Throws a CliError when the file is not ours. */
export async function readCredentials(path = credentialsPath()): Promise<Credentials> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { version: 1, hosts: {} };
    throw new CliError(`cannot read ${path}: ${messageOf(error)}`);
  }
  const value = parse(text);
  if (value === undefined) {
    throw new CliError(`${path} is damaged`, {
      hint: "remove it, then `helmr login` or start `helmr dev` again",
    });
  }
  return value;
}

const hostFields = ["api_key", "session_token", "project", "environment"] as const;

function parse(text: string): Credentials | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(value) || value.version !== 1 || !isRecord(value.hosts)) return undefined;
  const hosts: Record<string, HostCredential> = {};
  for (const [url, host] of Object.entries(value.hosts)) {
    if (!isRecord(host)) return undefined;
    const known = hostFields.filter((name) => host[name] !== undefined);
    if (known.some((name) => typeof host[name] !== "string")) return undefined;
    hosts[url] = Object.fromEntries(known.map((name) => [name, host[name]]));
  }
  return {
    version: 1,
    hosts,
    ...(typeof value.default_url === "string" ? { default_url: value.default_url } : {}),
  };
}

/** Remember a server and make it the default one. Replaces what was known of it. */
export async function saveHost(url: string, host: HostCredential, path = credentialsPath()): Promise<void> {
  await changeCredentials(({ hosts }) => ({ default_url: url, hosts: { ...hosts, [url]: host } }), path);
}

/**
 * Forget these of a server's credentials, the login or the key. A server without any is forgotten as a whole; when it was
 * the default one, the only other one becomes it.
 */
export async function forgetCredentials(
  url: string,
  names: readonly ("api_key" | "session_token")[],
  path = credentialsPath(),
): Promise<void> {
  await changeCredentials(({ default_url: byDefault, hosts: before }) => {
    const { [url]: host, ...others } = before;
    const left = Object.fromEntries(
      Object.entries(host ?? {}).filter(([name]) => !(names as readonly string[]).includes(name)),
    ) as HostCredential;
    if (left.api_key !== undefined || left.session_token !== undefined)
      return { default_url: byDefault, hosts: { ...before, [url]: left } };
    const [other, ...more] = Object.keys(others);
    const next = byDefault !== url ? byDefault : more.length === 0 ? other : undefined;
    return { default_url: next, hosts: others };
  }, path);
}

type Known = { readonly default_url?: string | undefined; readonly hosts: Credentials["hosts"] };

async function changeCredentials(change: (before: Known) => Known, path: string): Promise<void> {
  const { default_url: byDefault, hosts } = change(await readCredentials(path));
  const after: Credentials = {
    version: 1,
    ...(byDefault === undefined ? {} : { default_url: byDefault }),
    hosts,
  };
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const staged = `${path}.${randomUUID()}`;
  try {
    await writeFile(staged, `${JSON.stringify(after, null, 2)}\n`, { mode: 0o600, flag: "wx" });
    // The mode above passes through the umask, which could only remove bits; a copied file could carry more.
    await chmod(staged, 0o600);
    await rename(staged, path);
  } finally {
    await rm(staged, { force: true });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
