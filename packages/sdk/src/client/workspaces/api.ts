/** `client.workspaces` (contract 7): durable filesystems with commands, terminals, files and versions. */
import { HelmrApiError } from "../../errors.ts";
import {
  type ApiRequest,
  type ApiResponse,
  describe,
  parseJson,
  type ScopeOptions,
  type Transport,
} from "../transport.ts";
import { wireList, wireObject } from "../wire.ts";
import {
  createExecs,
  startExec,
  type WorkspaceExec,
  type WorkspaceExecOptions,
  type WorkspaceExecs,
} from "./execs.ts";
import { createFiles, type WorkspaceFiles } from "./files.ts";
import {
  materializationOf,
  stopOf,
  type Workspace,
  type WorkspaceMaterialization,
  type WorkspaceState,
  type WorkspaceStop,
  workspaceOf,
} from "./objects.ts";
import { createPtys, type WorkspacePtys } from "./ptys.ts";
import { ask, idOf, type Target, targetOf, type WorkspaceReference } from "./target.ts";
import { createVersions, type WorkspaceVersions } from "./versions.ts";

interface Labels {
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  readonly tags?: readonly string[] | undefined;
}
export interface WorkspaceCreateOptions extends ScopeOptions, Labels {
  /** Of a sandbox that is deployed. */
  readonly sandboxId: string;
  /** Default: the current deployment. */
  readonly deploymentId?: string | undefined;
  /** Unique among the environment's workspaces. */
  readonly externalId?: string | undefined;
  /** Sent as it is: the same key with the same options is one workspace. */
  readonly idempotencyKey?: string | undefined;
  /** Such as `24h` (the default); without days. */
  readonly idempotencyKeyTTL?: string | undefined;
}
export interface WorkspaceListOptions extends ScopeOptions {
  readonly state?: WorkspaceState | undefined;
  readonly externalId?: string | undefined;
  readonly tag?: string | undefined;
  /** 1 to 200, default 100. */
  readonly limit?: number | undefined;
}
/** Each that is given replaces what was there. */
export interface WorkspaceUpdateOptions extends ScopeOptions, Labels {}
export interface WorkspaceStopOptions extends ScopeOptions {
  readonly idempotencyKey?: string | undefined;
  readonly idempotencyKeyTTL?: string | undefined;
}
export interface WorkspaceForkOptions extends ScopeOptions, Labels {
  /** Default: the current version. */
  readonly versionId?: string | undefined;
  readonly externalId?: string | undefined;
}

export interface WorkspacesApi {
  create(options: WorkspaceCreateOptions): Promise<Workspace>;
  retrieve(workspace: WorkspaceReference, options?: ScopeOptions): Promise<Workspace>;
  /** Newest first. */
  list(options?: WorkspaceListOptions): Promise<Workspace[]>;
  update(workspace: WorkspaceReference, options: WorkspaceUpdateOptions): Promise<Workspace>;
  /** Archives it; its files stay readable until `autoDeleteAt`. 409 `workspace_in_use` while it is used. */
  delete(workspace: WorkspaceReference, options?: ScopeOptions): Promise<Workspace>;
  /** Asks for a live copy on a worker; the one there is when there is one. Commands and terminals ask by themselves. */
  materialize(workspace: WorkspaceReference, options?: ScopeOptions): Promise<WorkspaceMaterialization>;
  /** The same as `materialize`. */
  connect(workspace: WorkspaceReference, options?: ScopeOptions): Promise<WorkspaceMaterialization>;
  /** Saves it and stops its live copy. */
  stop(workspace: WorkspaceReference, options?: WorkspaceStopOptions): Promise<WorkspaceStop>;
  /** A new workspace of the same sandbox with the files of a version. */
  fork(workspace: WorkspaceReference, options?: WorkspaceForkOptions): Promise<Workspace>;
  /** Asks nothing of the server. */
  open(workspace: WorkspaceReference): WorkspaceHandle;
}

export interface WorkspaceHandle {
  readonly id: string;
  retrieve(options?: ScopeOptions): Promise<Workspace>;
  update(options: WorkspaceUpdateOptions): Promise<Workspace>;
  delete(options?: ScopeOptions): Promise<Workspace>;
  materialize(options?: ScopeOptions): Promise<WorkspaceMaterialization>;
  connect(options?: ScopeOptions): Promise<WorkspaceMaterialization>;
  stop(options?: WorkspaceStopOptions): Promise<WorkspaceStop>;
  fork(options?: WorkspaceForkOptions): Promise<Workspace>;
  /**
   * Runs a program with its arguments, no shell. One command or terminal at a time: 409 `workspace_writer_active` while
   * another is active.
   */
  exec(command: readonly string[], options?: WorkspaceExecOptions): Promise<WorkspaceExec>;
  readonly execs: WorkspaceExecs;
  readonly pty: WorkspacePtys;
  readonly files: WorkspaceFiles;
  readonly versions: WorkspaceVersions;
}

/** Builds the API on a transport that is asked for at each call. */
export function createWorkspacesApi(transport: () => Transport): WorkspacesApi {
  const bound =
    <Options, Result>(call: (target: Target, options: Options) => Promise<Result>, none: Options) =>
    async (workspace: WorkspaceReference, options: Options = none) =>
      await call(targetOf(transport, workspace), options);
  return Object.freeze({
    create: (options: WorkspaceCreateOptions) => create(transport(), options),
    async list(options: WorkspaceListOptions = {}) {
      const query = [
        ["state", options.state] as const,
        ["external_id", options.externalId] as const,
        ["tag", options.tag] as const,
        ["limit", options.limit] as const,
      ];
      const answer = await transport().json({ method: "GET", path: "/workspaces", query, scope: options });
      return wireList(answer, "workspaces").map(workspaceOf);
    },
    retrieve: bound(retrieve, {}),
    update: bound(update, {}),
    delete: bound(remove, {}),
    materialize: bound(materialize, {}),
    connect: bound(connect, {}),
    stop: bound(stop, {}),
    fork: bound(fork, {}),
    open: (workspace: WorkspaceReference) => openWorkspace(targetOf(transport, idOf(workspace))),
  } satisfies WorkspacesApi);
}

function openWorkspace(target: Target): WorkspaceHandle {
  return Object.freeze({
    id: target.id,
    retrieve: (options: ScopeOptions = {}) => retrieve(target, options),
    update: (options: WorkspaceUpdateOptions) => update(target, options),
    delete: (options: ScopeOptions = {}) => remove(target, options),
    materialize: (options: ScopeOptions = {}) => materialize(target, options),
    connect: (options: ScopeOptions = {}) => connect(target, options),
    stop: (options: WorkspaceStopOptions = {}) => stop(target, options),
    fork: (options: WorkspaceForkOptions = {}) => fork(target, options),
    exec: (command: readonly string[], options?: WorkspaceExecOptions) => startExec(target, command, options),
    execs: createExecs(target),
    pty: createPtys(target),
    files: createFiles(target),
    versions: createVersions(target),
  } satisfies WorkspaceHandle);
}

/** Contract 7.2: a 202 (the same request is in flight) is not repeated. */
async function create(transport: Transport, options: WorkspaceCreateOptions): Promise<Workspace> {
  const body = {
    sandbox_id: options?.sandboxId,
    deployment_id: options?.deploymentId,
    external_id: options?.externalId,
    metadata: options?.metadata,
    tags: options?.tags,
    idempotency_key: options?.idempotencyKey,
    idempotency_key_ttl: options?.idempotencyKeyTTL,
  };
  const sent: ApiRequest = { method: "POST", path: "/workspaces", body, scope: options ?? {} };
  const response: ApiResponse = await transport.send(sent);
  if (response.status === 202) throw new HelmrApiError(202, response.text, describe(sent));
  return enveloped(parseJson(response.text, describe(sent)));
}

async function retrieve(target: Target, options: ScopeOptions): Promise<Workspace> {
  return enveloped(await ask(target, "GET", "", options));
}

async function update(target: Target, options: WorkspaceUpdateOptions): Promise<Workspace> {
  const body = { metadata: options.metadata, tags: options.tags };
  return enveloped(await ask(target, "PATCH", "", options, { body }));
}

async function remove(target: Target, options: ScopeOptions): Promise<Workspace> {
  return enveloped(await ask(target, "DELETE", "", options));
}

async function materialize(target: Target, options: ScopeOptions): Promise<WorkspaceMaterialization> {
  return materializationOf(await ask(target, "POST", "/materialize", options, { body: {} }));
}

async function connect(target: Target, options: ScopeOptions): Promise<WorkspaceMaterialization> {
  return materializationOf(await ask(target, "POST", "/connect", options, { body: {} }));
}

async function stop(target: Target, options: WorkspaceStopOptions): Promise<WorkspaceStop> {
  const { idempotencyKey: idempotency_key, idempotencyKeyTTL: idempotency_key_ttl } = options;
  return stopOf(
    await ask(target, "POST", "/stop", options, { body: { idempotency_key, idempotency_key_ttl } }),
  );
}

async function fork(target: Target, options: WorkspaceForkOptions): Promise<Workspace> {
  const { versionId: version_id, externalId: external_id, metadata, tags } = options;
  const body = { version_id, external_id, metadata, tags };
  return enveloped(await ask(target, "POST", "/fork", options, { body }));
}

function enveloped(answer: unknown): Workspace {
  return workspaceOf(wireObject(answer, "workspace").workspace);
}
