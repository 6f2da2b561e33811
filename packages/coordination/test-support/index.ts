/** A Redis or Valkey of a test's own. */
export * from "./redis.ts";
