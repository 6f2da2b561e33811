/** PostgreSQL: the truth. One module per aggregate holds every transition it can make. */
export * from "./api-keys.ts";
export * from "./bootstrap.ts";
export * from "./builds/index.ts";
export * from "./database.ts";
export * from "./deployments/index.ts";
export * from "./embedded-postgres.ts";
export * from "./events.ts";
export * from "./idempotency-keys.ts";
export * from "./ids.ts";
export * from "./migrate.ts";
export * from "./run-operations.ts";
export * from "./runs/index.ts";
export type * from "./schema.ts";
export * from "./scope.ts";
export * from "./secret-cipher.ts";
export * from "./secrets.ts";
export * from "./sessions/index.ts";
export * from "./workers.ts";
