/**
 * Every public route: method, path, who may call it, what it takes, what it answers. The control plane registers exactly
 * these, and the OpenAPI document is made from them.
 *
 * `scope: "environment"` routes exist twice: `/api/...` for API keys and `/api/projects/{projectID}/environments/
 * {environmentID}/...` for user sessions (contract 1.4); `environmentRoutePrefix` is the one place that says so.
 * A route with several scopes is open to a key that has any of them.
 */
import type { z } from "zod";
import * as wire from "./wire/index.ts";
import type { ApiKeyScope } from "./wire/secrets.ts";

export const apiPrefix = "/api";
export const environmentRoutePrefix = "/api/projects/:projectID/environments/:environmentID";

export interface RouteDefinition {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Below the prefix, parameters as `:name`. */
  readonly path: string;
  readonly summary: string;
  readonly scope: "environment";
  /** Any one of these. */
  readonly permissions: readonly ApiKeyScope[];
  readonly params?: z.ZodType;
  readonly query?: z.ZodType;
  readonly body?: z.ZodType;
  /** An empty body counts as `{}`. */
  readonly bodyOptional?: true;
  readonly multipart?: true;
  /** The name of the SSE events that `follow=1` or `Accept: text/event-stream` gives. */
  readonly stream?: string;
  /** Success bodies by status; null is no body. */
  readonly responses: Readonly<Record<number, z.ZodType | null>>;
  /** Error statuses beyond 400, 401, 403, 404 and 5xx, which every route may answer. */
  readonly errors?: readonly number[];
}

/** `{S}` of contract 3: the same route by id and by external id. */
const byId = { params: wire.sessionParams } as const;
const byExternalId = { query: wire.sessionExternalQuery } as const;

const get = { method: "GET", scope: "environment" } as const;
const post = { method: "POST", scope: "environment" } as const;
const create = { permissions: ["runs:create"] } as const;
const read = { permissions: ["runs:read"] } as const;
const manage = { permissions: ["runs:manage"] } as const;
const deploy = { permissions: ["tasks:deploy"] } as const;
const readOrDeploy = { permissions: ["tasks:deploy", "runs:read"] } as const;
const secrets = { permissions: ["secrets:write"] } as const;
const seeSandboxes = {
  permissions: [
    "runs:read",
    "tasks:deploy",
    "workspace-lifecycle:manage",
    "workspace-files:read",
    "workspace-files:write",
    "workspace-versions:read",
    "workspace-versions:capture",
    "workspace-versions:restore",
    "workspace-versions:diff",
    "workspace-exec:create",
    "workspace-exec:read",
    "workspace-exec:manage",
    "workspace-pty:create",
    "workspace-pty:read",
    "workspace-pty:manage",
    "workspace-ports:expose",
    "workspace-ports:read",
    "workspace-ports:close",
  ],
} as const;

const patchSession = {
  method: "PATCH",
  scope: "environment",
  ...manage,
  summary: "Change a session's metadata, tags or expiry",
  body: wire.sessionPatchRequest,
  responses: { 200: wire.session },
  errors: [409],
} as const;
const closeSession = {
  ...post,
  ...manage,
  summary: "Close a session that has no active run",
  body: wire.sessionEndRequest,
  responses: { 200: wire.session },
  errors: [409],
} as const;
const cancelSession = {
  ...post,
  ...manage,
  summary: "Cancel a session and its current run",
  body: wire.sessionEndRequest,
  responses: { 200: wire.session },
  errors: [409],
} as const;
const getSession = { ...get, ...read, summary: "Read a session", responses: { 200: wire.session } } as const;
const listSessionRuns = {
  ...get,
  ...read,
  summary: "List a session's runs in turn order",
  responses: { 200: wire.sessionRunList },
} as const;

export const routes = {
  startSession: {
    ...post,
    ...create,
    path: "/sessions",
    summary: "Start a session, or find the one already started",
    body: wire.sessionStartRequest,
    responses: { 201: wire.sessionStart, 200: wire.sessionStart },
    errors: [202, 409],
  },
  startSessionAndWait: {
    ...post,
    ...create,
    path: "/sessions/start-and-wait",
    summary: "Start a session and wait for its run to end",
    body: wire.sessionStartAndWaitRequest,
    responses: { 200: wire.sessionStart },
    errors: [202, 409],
  },
  listSessions: {
    ...get,
    ...read,
    path: "/sessions",
    summary: "List sessions, last updated first",
    query: wire.sessionListQuery,
    responses: { 200: wire.sessionList },
  },
  getSession: { ...getSession, ...byId, path: "/sessions/:sessionID" },
  getSessionByExternalId: { ...getSession, ...byExternalId, path: "/sessions/by-external-id" },
  patchSession: { ...patchSession, ...byId, path: "/sessions/:sessionID" },
  patchSessionByExternalId: { ...patchSession, ...byExternalId, path: "/sessions/by-external-id" },
  closeSession: { ...closeSession, ...byId, path: "/sessions/:sessionID/close" },
  closeSessionByExternalId: { ...closeSession, ...byExternalId, path: "/sessions/by-external-id/close" },
  cancelSession: { ...cancelSession, ...byId, path: "/sessions/:sessionID/cancel" },
  cancelSessionByExternalId: { ...cancelSession, ...byExternalId, path: "/sessions/by-external-id/cancel" },
  listSessionRuns: { ...listSessionRuns, ...byId, path: "/sessions/:sessionID/runs" },
  listSessionRunsByExternalId: { ...listSessionRuns, ...byExternalId, path: "/sessions/by-external-id/runs" },

  listRuns: {
    ...get,
    ...read,
    path: "/runs",
    summary: "List runs, newest first",
    query: wire.runListQuery,
    responses: { 200: wire.runList },
  },
  countRuns: {
    ...get,
    ...read,
    path: "/runs/counts",
    summary: "Count runs by status",
    responses: { 200: wire.runCounts },
  },
  getRun: {
    ...get,
    ...read,
    path: "/runs/:runID",
    summary: "Read a run",
    params: wire.runParams,
    responses: { 200: wire.run },
  },
  cancelRun: {
    ...post,
    ...manage,
    path: "/runs/:runID/cancel",
    summary: "Cancel a run",
    params: wire.runParams,
    body: wire.runCancelRequest,
    responses: { 200: wire.runCancelResponse },
    errors: [409],
  },
  listRunEvents: {
    ...get,
    ...read,
    path: "/runs/:runID/events",
    summary: "Page through or follow a run's events",
    params: wire.runParams,
    query: wire.eventQuery,
    stream: "run_event",
    responses: { 200: wire.eventPage },
  },
  readRunLogs: {
    ...get,
    ...read,
    path: "/runs/:runID/logs",
    summary: "Read or follow a run's output",
    params: wire.runParams,
    query: wire.logQuery,
    stream: "run_log",
    responses: { 200: wire.runLogs },
  },

  createDeployment: {
    ...post,
    ...deploy,
    path: "/deployments",
    summary: "Upload a source and build it",
    multipart: true,
    body: wire.deploymentUploadMetadata,
    responses: { 201: wire.deployment },
    errors: [413],
  },
  listDeployments: {
    ...get,
    ...readOrDeploy,
    path: "/deployments",
    summary: "List deployments, newest first",
    query: wire.deploymentListQuery,
    responses: { 200: wire.deploymentList },
  },
  getCurrentDeployment: {
    ...get,
    ...read,
    path: "/deployments/current",
    summary: "Read the current deployment",
    responses: { 200: wire.currentDeployment },
  },
  getDeployment: {
    ...get,
    ...readOrDeploy,
    path: "/deployments/:deploymentID",
    summary: "Read a deployment",
    params: wire.deploymentParams,
    responses: { 200: wire.deployment },
  },
  listDeploymentEvents: {
    ...get,
    ...readOrDeploy,
    path: "/deployments/:deploymentID/events",
    summary: "Page through or follow a build's progress",
    params: wire.deploymentParams,
    query: wire.eventQuery,
    stream: "deployment_event",
    responses: { 200: wire.eventPage },
  },
  promoteDeployment: {
    ...post,
    ...deploy,
    path: "/deployments/:deployment/promote",
    summary: "Make a deployment current",
    params: wire.promotionParams,
    body: wire.promotionRequest,
    bodyOptional: true,
    responses: { 200: wire.deployment },
  },

  listTasks: {
    ...get,
    ...readOrDeploy,
    path: "/tasks",
    summary: "List the current deployment's tasks",
    responses: { 200: wire.taskList },
  },
  getTask: {
    ...get,
    ...readOrDeploy,
    path: "/tasks/:taskID",
    summary: "Read a task of the current deployment",
    params: wire.taskParams,
    responses: { 200: wire.task },
  },
  listSandboxes: {
    ...get,
    ...seeSandboxes,
    path: "/sandboxes",
    summary: "List the current deployment's sandboxes",
    responses: { 200: wire.sandboxList },
  },
  getSandbox: {
    ...get,
    ...seeSandboxes,
    path: "/sandboxes/:sandboxID",
    summary: "Read a sandbox of the current deployment",
    params: wire.sandboxParams,
    responses: { 200: wire.sandbox },
  },

  listSecrets: {
    ...get,
    ...secrets,
    path: "/secrets",
    summary: "List secrets by name; values are never returned",
    responses: { 200: wire.secretList },
  },
  getSecret: {
    ...get,
    ...secrets,
    path: "/secrets/:name",
    summary: "Read when a secret was set",
    params: wire.secretParams,
    responses: { 200: wire.secret },
  },
  putSecret: {
    ...get,
    method: "PUT",
    ...secrets,
    path: "/secrets/:name",
    summary: "Set a secret's value",
    params: wire.secretParams,
    body: wire.secretPutRequest,
    responses: { 200: wire.secret },
  },
  deleteSecret: {
    ...get,
    method: "DELETE",
    ...secrets,
    path: "/secrets/:name",
    summary: "Delete a secret",
    params: wire.secretParams,
    responses: { 204: null },
  },
} as const satisfies Readonly<Record<string, RouteDefinition>>;

export type Routes = typeof routes;
export type RouteName = keyof Routes;
