export * from "./change-deployments.ts";
export * from "./read-deployments.ts";
