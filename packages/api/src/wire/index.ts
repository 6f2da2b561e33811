export * from "./deployments.ts";
export * from "./device.ts";
export * from "./events.ts";
export * from "./runs.ts";
export * from "./secrets.ts";
export * from "./sessions.ts";
export * from "./sign-in.ts";
export * from "./values.ts";
