/** Deleting projects and environments: mark.ts says how it goes. */

export * from "./artifacts.ts";
export * from "./mark.ts";
export * from "./preview.ts";
export * from "./purge.ts";
