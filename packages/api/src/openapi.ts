/**
 * The OpenAPI 3.1 document, made from the table of routes and the schemas that validate them. docs/openapi.json is a copy
 * that `scripts/openapi.ts` writes and checks.
 */
import { z } from "zod";
import { errorEnvelope } from "./errors.ts";
import { apiPrefix, type RouteDefinition, routes } from "./routes.ts";
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
  Run: wire.run,
  RunList: wire.runList,
  RunCounts: wire.runCounts,
  RunCancelRequest: wire.runCancelRequest,
  RunOperation: wire.runOperation,
  RunCancelResponse: wire.runCancelResponse,
  RunLogs: wire.runLogs,
  RunLogFrame: wire.runLogFrame,
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
  Secret: wire.secret,
  SecretList: wire.secretList,
  SecretPutRequest: wire.secretPutRequest,
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
        "A self-hosted runtime for coding agents. Every route needs `Authorization: Bearer <API key>`.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: apiPrefix }],
    security: [{ apiKey: [] }],
    paths: paths(),
    components: {
      securitySchemes: {
        apiKey: { type: "http", scheme: "bearer", bearerFormat: "hlmr_sk_<43 characters>" },
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
  for (const [operationId, route] of Object.entries<RouteDefinition>(routes)) {
    const path = openapiPath(route.path);
    result[path] = { ...result[path], [route.method.toLowerCase()]: operation(operationId, route) };
  }
  return result;
}

/** Fastify's `:name` as OpenAPI's `{name}`. */
export function openapiPath(path: string): string {
  return path.replace(/:([A-Za-z]+)/g, "{$1}");
}

function operation(operationId: string, route: RouteDefinition): Json {
  const parameters = [
    ...parametersOf(route.params, "path"),
    ...parametersOf(route.query, "query"),
    { name: "Helmr-API-Version", in: "header", required: false, schema: { const: wire.apiVersion } },
  ];
  return {
    operationId,
    summary: route.summary,
    tags: [route.path.split("/")[1]],
    description: `Needs one of the scopes: ${route.permissions.map((scope) => `\`${scope}\``).join(", ")}.`,
    parameters,
    ...(route.body === undefined ? {} : { requestBody: requestBody(route, route.body) }),
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
  404: "Not found in the credential's environment",
  409: "The resource's state does not allow it",
  413: "Larger than 128 MiB",
};

function responses(route: RouteDefinition): Json {
  const result: Record<string, Json> = {};
  for (const [status, schema] of Object.entries(route.responses)) {
    result[status] =
      schema === null
        ? { description: "Done" }
        : { description: "Success", content: successContent(route, schema) };
  }
  for (const status of [400, 401, 403, 404, ...(route.errors ?? [])]) {
    result[status] = {
      description: errorDescriptions[status] ?? "Error",
      content: { "application/json": { schema: schemaOf(errorEnvelope) } },
    };
  }
  return result;
}

function successContent(route: RouteDefinition, schema: z.ZodType): Json {
  const json = { "application/json": { schema: schemaOf(schema) } };
  if (route.stream === undefined) return json;
  const description = `Events named \`${route.stream}\`, each with the seq as its id; asked for with \`follow=1\` or the Accept header.`;
  return { ...json, "text/event-stream": { schema: { type: "string", description } } };
}
