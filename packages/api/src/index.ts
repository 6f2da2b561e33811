export * from "./catalog.ts";
export * from "./duration.ts";
export * from "./errors.ts";
export * from "./json.ts";
export * from "./openapi.ts";
export * from "./routes.ts";
export * from "./wire/index.ts";
export * from "./worker-api.ts";
