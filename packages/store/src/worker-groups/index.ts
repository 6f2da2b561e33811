export { defaultWorkerGroupId, workTopic } from "./lifecycle.ts";
export { ensureBootstrapToken } from "./tokens.ts";
