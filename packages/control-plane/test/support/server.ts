/** A control plane on a free port over a database and a folder of its own, and a client that says what it sends. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { apiKeyScopes, apiPrefix, type MemberRole, routes } from "@helmr/api";
import { type ArtifactStore, createFolderStore } from "@helmr/artifacts";
import { type ControlPlaneConfig, createControlPlane, type Mailer } from "@helmr/control-plane";
import { createMemoryBus, type LiveBus } from "@helmr/coordination";
import { type ActingScope, createApiKey, createSecretCipher, type Database } from "@helmr/store";
import {
  type SeededEnvironment,
  type SeededMember,
  seedEnvironment,
  seedMember,
  startTestDatabase,
} from "@helmr/store/testing";
import type { ControlMetrics, Tracing } from "@helmr/telemetry";
import { pino } from "pino";

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  /** Parsed when it is JSON, else the text. */
  // biome-ignore lint/suspicious/noExplicitAny: tests read answers of any shape and assert on what they read
  readonly body: any;
}

export interface TestServer {
  readonly url: string;
  /** As browsers know the server. */
  readonly publicUrl: string;
  readonly db: Database;
  readonly bus: LiveBus;
  readonly artifacts: ArtifactStore;
  readonly environment: SeededEnvironment;
  readonly scope: ActingScope;
  readonly key: string;
  /** `path` below /api. */
  request(method: string, path: string, body?: unknown, options?: RequestOptions): Promise<Answer>;
  /** A signed-in user of the environment's organization; its token goes where a key goes. undefined: no member. */
  newMember(role: MemberRole | undefined, options?: Parameters<typeof seedMember>[3]): Promise<SeededMember>;
  /** `/projects/<id>/environments/<id>` of the environment. */
  readonly prefix: string;
  newKey(scope?: ActingScope, scopes?: readonly string[], expiresAt?: Date): Promise<string>;
  close(): Promise<void>;
  stop(): Promise<void>;
}

export interface RequestOptions {
  /** null sends none. */
  readonly key?: string | null;
  readonly headers?: Record<string, string>;
  /** Sent as it is. */
  readonly raw?: string | Uint8Array<ArrayBuffer> | FormData;
}

export interface TestServerOptions extends Partial<ControlPlaneConfig> {
  readonly mailer?: Mailer;
  readonly metrics?: ControlMetrics;
  readonly tracing?: Tracing;
}

const publicUrl = "http://127.0.0.1";

export async function startTestServer({
  mailer,
  metrics,
  tracing,
  ...config
}: TestServerOptions = {}): Promise<TestServer> {
  const database = await startTestDatabase();
  const { db } = database;
  const folder = await mkdtemp(join(tmpdir(), "helmr-control-plane-"));
  const bus = createMemoryBus();
  const artifacts = createFolderStore(folder);
  const controlPlane = createControlPlane({
    db,
    bus,
    artifacts,
    secretCipher: createSecretCipher({ current: Buffer.alloc(32, 7).toString("base64") }),
    authSecret: Buffer.alloc(32, 9),
    config: { publicUrl, ...config },
    ...(mailer && { mailer }),
    ...(metrics && { metrics }),
    ...(tracing && { tracing }),
    logger: pino({ level: process.env.HELMR_TEST_LOG ?? "silent" }),
  });
  const url = await controlPlane.listen({ host: "127.0.0.1", port: 0 });
  const environment = await seedEnvironment(db);
  const newKey: TestServer["newKey"] = async (scope = environment.scope, scopes = apiKeyScopes, expiresAt) =>
    (await createApiKey(db, scope, { name: "test", scopes, ...(expiresAt && { expiresAt }) })).rawKey;
  const key = await newKey();
  return {
    url,
    publicUrl: config.publicUrl ?? publicUrl,
    db,
    bus,
    artifacts,
    environment,
    scope: environment.scope,
    key,
    newKey,
    newMember: (role, options) => seedMember(db, environment.scope.organizationId, role, options),
    prefix: `/projects/${environment.scope.projectId}/environments/${environment.scope.environmentId}`,
    request: (method, path, body, sending = {}) => send(url, key, method, path, body, sending),
    close: () => controlPlane.close(),
    stop: async () => {
      await controlPlane.close();
      await bus.close();
      await database.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function send(
  url: string,
  key: string,
  method: string,
  path: string,
  body: unknown,
  options: RequestOptions,
): Promise<Answer> {
  const credential = options.key === undefined ? key : options.key;
  const payload = options.raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const response = await fetch(`${url}${apiPrefix}${path}`, {
    method,
    headers: {
      ...(credential === null ? {} : { authorization: `Bearer ${credential}` }),
      ...options.headers,
    },
    ...(payload === undefined ? {} : { body: payload }),
  });
  const answer = await readAnswer(response);
  checkShape(method, path, answer);
  return answer;
}

export async function readAnswer(response: Response): Promise<Answer> {
  const text = await response.text();
  const isJson = (response.headers.get("content-type") ?? "").startsWith("application/json");
  return { status: response.status, headers: response.headers, body: isJson ? JSON.parse(text) : text };
}

/** Every answer of a route of the table is held to the table: statuses and bodies. */
function checkShape(method: string, path: string, answer: Answer): void {
  const unprefixed = path.replace(/^\/projects\/[^/]+\/environments\/[^/]+(?=\/)/, "");
  const found = Object.entries(routes).filter(
    ([, route]) => route.method === method && (matches(route.path, path) || matches(route.path, unprefixed)),
  );
  const exact = found.find(([, route]) => !route.path.includes(":")) ?? found[0];
  if (exact === undefined || answer.status >= 300) return;
  const [name, route] = exact;
  const responses = route.responses as Record<number, { parse(value: unknown): unknown } | null>;
  const schema = responses[answer.status];
  if (answer.status === 202) return;
  if (schema === undefined)
    throw new Error(`${name} answered ${answer.status}, which its route does not list`);
  schema?.parse(answer.body);
}

function matches(pattern: string, path: string): boolean {
  return new RegExp(`^${pattern.replace(/:[A-Za-z]+/g, "[^/?]+")}(\\?|$)`).test(path);
}
