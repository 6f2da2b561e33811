/** What wakes those who wait, and what says when schedules are due. */
export * from "./bus.ts";
export type { ClaimedEntry, FireIndex, PlannedEntry, SettledEntry } from "./fire-index.ts";
export * from "./memory-bus.ts";
export * from "./memory-fire-index.ts";
export * from "./redis-bus.ts";
export type { RedisOptions } from "./redis-connection.ts";
export * from "./redis-fire-index.ts";
