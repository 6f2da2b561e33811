/**
 * The OpenAPI 3.1 document, made from the table of routes and the schemas that validate them. docs/openapi.json is a copy
 * that `scripts/openapi.ts` writes and checks.
 */
import { z } from "zod";
import { errorEnvelope } from "./errors.ts";
import { type Permission, scopeOf } from "./permissions.ts";
import { apiPrefix, environmentRoutePrefix, type RouteDefinition, routes } from "./routes/index.ts";
import * as wire from "./wire/index.ts";

type Json = Record<string, unknown>;

/** The schemas that get a name in the document; all others are written out where they are used. */
const namedSchemas: Readonly<Record<string, z.ZodType>> = {
  Session: wire.session,
  SessionList: wire.sessionList,
  SessionRun: wire.sessionRun,
  SessionRunList: wire.sessionRunList,
  SessionStart: wire.sessionStart,
  SessionStartRequest: wire.sessionStartRequest,
  SessionStartAndWaitRequest: wire.sessionStartAndWaitRequest,
  SessionPatchRequest: wire.sessionPatchRequest,
  SessionEndRequest: wire.sessionEndRequest,
  SessionStream: wire.sessionStream,
  SessionStreamList: wire.sessionStreamList,
  StreamRecord: wire.streamRecord,
  StreamRecordList: wire.streamRecordList,
  StreamRecordRead: wire.streamRecordRead,
  StreamAppendRequest: wire.streamAppendRequest,
  StreamAppend: wire.streamAppend,
  Token: wire.token,
  CreatedToken: wire.createdToken,
  TokenList: wire.tokenList,
  TokenCreateRequest: wire.tokenCreateRequest,
  TokenCompleteRequest: wire.tokenCompleteRequest,
  TokenCompletion: wire.tokenCompletion,
  PublicAccessTokenCreateRequest: wire.publicAccessTokenCreateRequest,
  PublicAccessToken: wire.publicAccessToken,
  PendingWait: wire.pendingWait,
  Run: wire.run,
  RunList: wire.runList,
  RunCounts: wire.runCounts,
  RunCancelRequest: wire.runCancelRequest,
  RunOperation: wire.runOperation,
  RunCancelResponse: wire.runCancelResponse,
  RunLogs: wire.runLogs,
  RunLogFrame: wire.runLogFrame,
  Schedule: wire.schedule,
  ScheduleList: wire.scheduleList,
  ScheduleCreateRequest: wire.scheduleCreateRequest,
  ScheduleUpdateRequest: wire.scheduleUpdateRequest,
  Event: wire.event,
  EventPage: wire.eventPage,
  Deployment: wire.deployment,
  DeploymentList: wire.deploymentList,
  CurrentDeployment: wire.currentDeployment,
  DeploymentUploadMetadata: wire.deploymentUploadMetadata,
  PromotionRequest: wire.promotionRequest,
  Task: wire.task,
  TaskList: wire.taskList,
  Sandbox: wire.sandbox,
  SandboxList: wire.sandboxList,
  Workspace: wire.workspace,
  WorkspaceList: wire.workspaceList,
  WorkspaceCreateRequest: wire.workspaceCreateRequest,
  CreatedWorkspace: wire.createdWorkspace,
  WorkspaceEnvelope: wire.workspaceEnvelope,
  WorkspaceUpdateRequest: wire.workspaceUpdateRequest,
  WorkspaceForkRequest: wire.workspaceForkRequest,
  WorkspaceVersion: wire.workspaceVersion,
  WorkspaceVersionEnvelope: wire.workspaceVersionEnvelope,
  WorkspaceVersionList: wire.workspaceVersionList,
  WorkspaceRestoreRequest: wire.workspaceRestoreRequest,
  WorkspaceMaterialization: wire.materialization,
  WorkspaceStopRequest: wire.workspaceStopRequest,
  WorkspaceStop: wire.workspaceStop,
  WorkspaceCaptureRequest: wire.workspaceCaptureRequest,
  Exec: wire.exec,
  ExecEnvelope: wire.execEnvelope,
  ExecList: wire.execList,
  ExecCreateRequest: wire.execCreateRequest,
  CreatedExec: wire.createdExec,
  ExecKillRequest: wire.execKillRequest,
  Pty: wire.pty,
  PtyEnvelope: wire.ptyEnvelope,
  PtyList: wire.ptyList,
  PtyCreateRequest: wire.ptyCreateRequest,
  CreatedPty: wire.createdPty,
  PtyResizeRequest: wire.ptyResizeRequest,
  WorkspaceInputRequest: wire.workspaceInputRequest,
  WorkspaceChunk: wire.workspaceChunk,
  WorkspaceChunkList: wire.workspaceChunkList,
  WorkspaceEntry: wire.workspaceEntry,
  WorkspaceEntryEnvelope: wire.workspaceEntryEnvelope,
  WorkspaceEntryList: wire.workspaceEntryList,
  WorkspaceChange: wire.workspaceChange,
  WorkspaceDiff: wire.workspaceDiff,
  WorkspaceFileDiff: wire.workspaceFileDiff,
  Secret: wire.secret,
  SecretList: wire.secretList,
  SecretPutRequest: wire.secretPutRequest,
  DeviceCodeStart: wire.deviceCodeStart,
  DeviceTokenRequest: wire.deviceTokenRequest,
  DeviceToken: wire.deviceToken,
  DeviceTokenPending: wire.deviceTokenPending,
  DeviceStatus: wire.deviceStatus,
  DeviceDecisionRequest: wire.deviceDecisionRequest,
  DeviceDecision: wire.deviceDecision,
  Me: wire.me,
  AuthProviders: wire.authProviders,
  MagicLinkStartRequest: wire.magicLinkStartRequest,
  MagicLinkStart: wire.magicLinkStart,
  SignInFinish: wire.signInFinish,
  OAuthStartRequest: wire.oauthStartRequest,
  OAuthStart: wire.oauthStart,
  Project: wire.project,
  ProjectList: wire.projectList,
  ProjectCreateRequest: wire.projectCreateRequest,
  ProjectPatchRequest: wire.projectPatchRequest,
  Environment: wire.environment,
  EnvironmentCreateRequest: wire.environmentCreateRequest,
  EnvironmentPatchRequest: wire.environmentPatchRequest,
  DeletionPreview: wire.deletionPreview,
  ApiKey: wire.apiKey,
  ApiKeyList: wire.apiKeyList,
  ApiKeyCreateRequest: wire.apiKeyCreateRequest,
  CreatedApiKey: wire.createdApiKey,
  Organization: wire.organization,
  OwnOrganization: wire.ownOrganization,
  OwnOrganizationList: wire.ownOrganizationList,
  OrganizationCreateRequest: wire.organizationCreateRequest,
  Member: wire.member,
  MemberList: wire.memberList,
  MemberPatchRequest: wire.memberPatchRequest,
  Invitation: wire.invitation,
  InvitationList: wire.invitationList,
  InvitationCreateRequest: wire.invitationCreateRequest,
  InvitationAcceptRequest: wire.invitationAcceptRequest,
  CreatedInvitation: wire.createdInvitation,
  AcceptedInvitation: wire.acceptedInvitation,
  AuditLogRecord: wire.auditRecord,
  AuditLog: wire.auditLog,
  Error: errorEnvelope,
};
const schemaNames = new Map(Object.entries(namedSchemas).map(([name, schema]) => [schema, name]));

/** The document as JSON, the same for the same schemas. */
export function openapiDocument(): Json {
  return {
    openapi: "3.1.0",
    info: {
      title: "Helmr",
      version: wire.apiVersion,
      description:
        "A self-hosted runtime for coding agents. Routes of an environment exist twice: below `/api` for API keys, and below `/api/projects/{projectID}/environments/{environmentID}` for signed-in users, where project and environment are given by UUID or slug. Routes below `/api/v1` are for browsers and webhooks.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: apiPrefix }],
    paths: paths(),
    components: {
      securitySchemes: {
        apiKey: { type: "http", scheme: "bearer", bearerFormat: "hlmr_sk_<43 characters>" },
        sessionToken: { type: "http", scheme: "bearer", bearerFormat: "opaque, at least 40 characters" },
        sessionCookie: {
          type: "apiKey",
          in: "cookie",
          name: "__Host-helmr_session",
          description: "Set at sign-in. `helmr_session_dev` where the server has no https.",
        },
        operatorToken: { type: "http", scheme: "bearer", bearerFormat: "as HELMR_OPERATOR_TOKEN sets it" },
        publicAccessToken: {
          type: "http",
          scheme: "bearer",
          bearerFormat: "hlmr_pat_<43 characters>, or hlmr_public_access_<43 characters> of a token",
        },
      },
      schemas: componentSchemas(),
    },
  };
}

function componentSchemas(): Json {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(namedSchemas)) registry.add(schema, { id });
  const { schemas } = z.toJSONSchema(registry, { io: "input", uri: componentRef, unrepresentable: "any" });
  return Object.fromEntries(Object.entries(schemas).map(([id, schema]) => [id, withoutMarkers(schema)]));
}

function componentRef(id: string): string {
  return `#/components/schemas/${id}`;
}

/** `$schema` and `$id` belong to documents of their own. */
function withoutMarkers(schema: Json): Json {
  const { $schema: _schema, $id: _id, ...rest } = schema;
  return rest;
}

function schemaOf(schema: z.ZodType): Json {
  const name = schemaNames.get(schema);
  if (name !== undefined) return { $ref: componentRef(name) };
  return withoutMarkers(z.toJSONSchema(schema, { io: "input", unrepresentable: "any" }));
}

function paths(): Json {
  const result: Record<string, Json> = {};
  const add = (path: string, method: string, described: Json) => {
    result[path] = { ...result[path], [method.toLowerCase()]: described };
  };
  for (const [name, route] of Object.entries<RouteDefinition>(routes)) {
    const { kind } = route.access;
    if (kind !== "environment-member") {
      add(openapiPath(route.path), route.method, operation(name, route, { prefixed: false }));
    }
    if (kind === "environment" || kind === "environment-member") {
      const path = openapiPath(`${environmentRoutePrefix.slice(apiPrefix.length)}${route.path}`);
      const operationId = kind === "environment" ? `${name}InEnvironment` : name;
      add(path, route.method, operation(operationId, route, { prefixed: true }));
    }
  }
  return result;
}

/** Fastify's `:name` as OpenAPI's `{name}`. */
export function openapiPath(path: string): string {
  return path.replace(/:([A-Za-z]+)/g, "{$1}");
}

const environmentParameters: readonly Json[] = ["projectID", "environmentID"].map((name) => ({
  name,
  in: "path",
  required: true,
  schema: { type: "string", description: "A UUID or a slug" },
}));

const userSchemes: readonly Json[] = [{ sessionToken: [] }, { sessionCookie: [] }];

/** Who may call: the same table that the server decides by. */
function security({ access }: RouteDefinition, prefixed: boolean): Pick<Json, "security" | "description"> {
  if (access.kind === "public") return { security: [], description: "Needs no credential." };
  if (access.kind === "environment" && !prefixed) {
    return { security: [{ apiKey: [] }], description: `For API keys with ${scopesOf(access.permissions)}.` };
  }
  if (access.kind === "body-environment") {
    const description = `For API keys with ${scopesOf(access.permissions)}, and for signed-in users${neededOf(access)}.`;
    return { security: [{ apiKey: [] }, ...userSchemes], description };
  }
  if (access.kind === "public-access") {
    const description = `For public access tokens with the scope \`${access.scopeType}\`.`;
    return { security: [{ publicAccessToken: [] }], description };
  }
  if (access.kind === "token") {
    return access.secretIn === "bearer"
      ? { security: [{ publicAccessToken: [] }], description: "For the token's own public access token." }
      : { security: [], description: "The path holds the token's secret." };
  }
  if (access.kind === "operator") {
    const description =
      "For the operator token, and in a self-hosted installation for signed-in owners and admins.";
    return { security: [{ operatorToken: [] }, ...userSchemes], description };
  }
  return { security: userSchemes, description: `For signed-in users${neededOf(access)}.` };
}

function scopesOf(permissions: readonly Permission[]): string {
  const scopes = permissions.map(scopeOf).map((scope) => `\`${scope}\``);
  return `${scopes.length === 1 ? "the scope" : "one of the scopes"} ${scopes.join(", ")}`;
}

function neededOf(
  access: Exclude<RouteDefinition["access"], { kind: "public" | "public-access" | "token" | "operator" }>,
): string {
  if (access.kind === "user") return "";
  const needed: readonly (Permission | undefined)[] =
    "permissions" in access ? access.permissions : [access.permission];
  const named = needed.filter((permission) => permission !== undefined);
  if (named.length === 0) return " who are members";
  return ` whose role has the permission ${named.map((permission) => `\`${permission}\``).join(" or ")}`;
}

function operation(operationId: string, route: RouteDefinition, { prefixed }: { prefixed: boolean }): Json {
  const parameters = [
    ...(prefixed ? environmentParameters : []),
    ...parametersOf(route.params, "path"),
    ...parametersOf(route.query, "query"),
    { name: "Helmr-API-Version", in: "header", required: false, schema: { const: wire.apiVersion } },
  ];
  return {
    operationId,
    summary: route.summary,
    tags: [route.path.split("/")[1]],
    ...security(route, prefixed),
    parameters,
    ...(route.body === undefined ? {} : { requestBody: requestBody(route, route.body) }),
    ...(route.upload === true ? { requestBody: { required: true, content: bytesContent("*/*") } } : {}),
    responses: responses(route),
  };
}

function parametersOf(schema: z.ZodType | undefined, location: "path" | "query"): Json[] {
  if (schema === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(schema) as {
    properties?: Record<string, Json>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, value]) => ({
    name,
    in: location,
    required: required.includes(name),
    schema: value,
  }));
}

function requestBody(route: RouteDefinition, body: z.ZodType): Json {
  if (route.multipart !== true) {
    return {
      required: route.bodyOptional !== true,
      content: { "application/json": { schema: schemaOf(body) } },
    };
  }
  const schema = {
    type: "object",
    required: ["metadata", "deployment_source"],
    properties: { metadata: schemaOf(body), deployment_source: { type: "string", format: "binary" } },
    description: "Exactly these two parts in this order; deployment_source is a plain tar file.",
  };
  const encoding = { metadata: { contentType: "application/json" } };
  return { required: true, content: { "multipart/form-data": { schema, encoding } } };
}

const errorDescriptions: Readonly<Record<number, string>> = {
  202: "The same start is in flight: send it again after Retry-After",
  400: "The request is not valid",
  401: "No valid credential",
  403: "The credential lacks the permission",
  404: "Not found where the credential may look",
  409: "The resource's state does not allow it",
  410: "Used, revoked or expired",
  413: "Larger than is allowed",
  416: "The file has no such range",
  429: "Too many requests: try again after Retry-After seconds",
  502: "The sign-in provider did not answer as it should",
};

function responses(route: RouteDefinition): Json {
  const result: Record<string, Json> = {};
  for (const [status, schema] of Object.entries(route.responses)) {
    result[status] =
      schema === null
        ? emptyOrBytes(route, Number(status))
        : { description: "Success", content: successContent(route, schema) };
  }
  const general = route.access.kind === "public" ? [400] : [400, 401, 403, 404, 429];
  const limited = route.rateLimit === undefined ? [] : [429];
  for (const status of [...general, ...limited, ...(route.errors ?? [])]) {
    result[status] = {
      description: errorDescriptions[status] ?? "Error",
      content: { "application/json": { schema: schemaOf(errorEnvelope) } },
    };
  }
  return result;
}

function emptyOrBytes({ bytes }: RouteDefinition, status: number): Json {
  return bytes === undefined || status >= 300
    ? { description: "Done" }
    : { description: "The bytes", content: bytesContent(bytes) };
}

function bytesContent(type: string): Json {
  return { [type]: { schema: { type: "string", format: "binary" } } };
}

function successContent(route: RouteDefinition, schema: z.ZodType): Json {
  const json = { "application/json": { schema: schemaOf(schema) } };
  if (route.stream === undefined) return json;
  const description = `Events named \`${route.stream}\`, each with the seq as its id; asked for with \`follow=1\` or the Accept header.`;
  return { ...json, "text/event-stream": { schema: { type: "string", description } } };
}
