/** Messages, codec and reliable link between worker and guest. */
export * from "./codec.ts";
export * from "./frames.ts";
export * from "./link.ts";
export * from "./link-snapshot.ts";
export * from "./messages.ts";
