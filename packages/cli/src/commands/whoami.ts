/** `helmr whoami`: which server, as whom, and what is still to do; the key or login is tried at the server. */
import type { Command } from "commander";
import { type ApiClient, createApiClient } from "../client/api-client.ts";
import { responseError } from "../client/api-error.ts";
import { connected, declare } from "../command.ts";
import {
  type ConnectionOptions,
  interruptible,
  resolveEnvironment,
  resolveHost,
  resolveLogin,
} from "../context.ts";
import { note, writeFields, writeJson } from "../output.ts";
import { nextSteps } from "../who.ts";

/** Contract 11: the part of a key by which people recognise it. */
const keyPrefixLength = 16;

export function register(program: Command): void {
  connected(
    declare(program, "whoami", "Show the server, who is signed in there, and what they may do", [
      "helmr whoami",
      "helmr whoami --json",
    ]),
  ).action(whoami);
}

const whoami = (options: ConnectionOptions): Promise<void> =>
  interruptible(async (signal) => {
    const { saved } = await resolveHost(options);
    const byKey = Boolean(process.env.HELMR_API_KEY) || saved?.session_token === undefined;
    const endpoint = byKey ? await resolveEnvironment(options) : await resolveLogin(options);
    const api = createApiClient({ ...endpoint, signal });
    await (byKey ? showKey(api, endpoint.token, options) : showPerson(api, options));
  });

async function showPerson(api: ApiClient, options: ConnectionOptions): Promise<void> {
  const me = await api.get("/me", { schema: "me" });
  if (options.json) return writeJson(me);
  await writeFields([
    ["server", api.url],
    ["name", me.display_name],
    ["user", me.user_id],
    ["organization", me.org_slug === undefined ? undefined : `${me.org_slug} (${me.org_name})`],
    ["role", me.role],
    ["permissions", me.permissions.join(" ")],
  ]);
  for (const step of nextSteps(me)) note(`hint: ${step}`);
}

/** Any route tells a key that works from one that does not: 403 says that it lacks the scope, 401 that it is none. */
async function showKey(api: ApiClient, key: string, options: ConnectionOptions): Promise<void> {
  const response = await api.raw("GET", "/runs/counts", {});
  if (!response.ok && response.status !== 403) throw await responseError(response);
  await response.body?.cancel();
  const from = process.env.HELMR_API_KEY ? "HELMR_API_KEY" : "saved";
  const prefix = key.slice(0, keyPrefixLength);
  if (options.json) return writeJson({ api_url: api.url, credential: "api_key", key_prefix: prefix, from });
  await writeFields([
    ["server", api.url],
    ["API key", `${prefix}… (${from})`],
  ]);
  note("hint: an API key names an environment, not a person; `helmr login` signs a person in");
}
