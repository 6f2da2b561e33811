export { type CreateWait, type CreateWaitResult, createWait, type WaitFor } from "./create.ts";
export { discardUnrecorded } from "./discard.ts";
export type { WaitRow } from "./lifecycle.ts";
export * from "./park.ts";
export * from "./read.ts";
export { expireWaits, nextWaitDue, type ResolvedWait } from "./resolve.ts";
export { noteUnresumable } from "./unresumable.ts";
