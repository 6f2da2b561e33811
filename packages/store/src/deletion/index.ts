/** Deleting projects and environments: mark.ts says how it goes. */
export * from "./mark.ts";
export * from "./preview.ts";
export * from "./purge.ts";
export * from "./sources.ts";
