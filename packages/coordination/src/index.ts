/** What wakes those who wait. */
export * from "./bus.ts";
export * from "./memory-bus.ts";
