/** `HelmrClient`, and the top-level mirrors of its namespaces on a default client. */
import { type AuthApi, createAuthApi } from "./auth.ts";
import { environmentVariable } from "./environment.ts";
import { createRunsApi, type RunsApi } from "./runs.ts";
import { createSchedulesApi, type SchedulesApi } from "./schedules.ts";
import { createSessionsApi, type SessionsApi } from "./sessions.ts";
import { createTokensApi, type TokensApi } from "./tokens.ts";
import { type ClientOptions, Transport } from "./transport.ts";
import { createWorkspacesApi, type WorkspacesApi } from "./workspaces/api.ts";

/**
 * Talks to one Helmr server. Throws a TypeError without a URL, and UnsupportedTransportError on one that would send
 * the API key unencrypted over a network.
 */
export class HelmrClient {
  readonly sessions: SessionsApi;
  readonly runs: RunsApi;
  readonly workspaces: WorkspacesApi;
  readonly tokens: TokensApi;
  readonly schedules: SchedulesApi;
  readonly auth: AuthApi;

  constructor(options: ClientOptions = {}) {
    const transport = new Transport(options);
    this.sessions = createSessionsApi(() => transport);
    this.runs = createRunsApi(() => transport);
    this.workspaces = createWorkspacesApi(() => transport);
    this.tokens = createTokensApi(() => transport);
    this.schedules = createSchedulesApi(() => transport);
    this.auth = createAuthApi(() => transport);
  }
}

let shared: { readonly key: string; readonly transport: Transport } | undefined;

/** Built at the first call from HELMR_API_URL and HELMR_API_KEY, and again when they change. */
function defaultTransport(): Transport {
  const key = JSON.stringify([environmentVariable("HELMR_API_URL"), environmentVariable("HELMR_API_KEY")]);
  if (shared?.key !== key) shared = { key, transport: new Transport({}) };
  return shared.transport;
}

/** `client.sessions` of a client made from HELMR_API_URL and HELMR_API_KEY. */
export const sessions: SessionsApi = createSessionsApi(defaultTransport);
/** `client.runs` of a client made from HELMR_API_URL and HELMR_API_KEY. */
export const runs: RunsApi = createRunsApi(defaultTransport);
/** `client.workspaces` of a client made from HELMR_API_URL and HELMR_API_KEY. */
export const workspaces: WorkspacesApi = createWorkspacesApi(defaultTransport);
/** `client.auth` of a client made from HELMR_API_URL and HELMR_API_KEY. */
export const auth: AuthApi = createAuthApi(defaultTransport);
/** `client.tokens` of the same, for ../tokens.ts. */
export const clientTokens: TokensApi = createTokensApi(defaultTransport);
/** `client.schedules` of the same, for ../schedules.ts. */
export const clientSchedules: SchedulesApi = createSchedulesApi(defaultTransport);
