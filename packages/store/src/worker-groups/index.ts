export {
  createWorkerGroup,
  deleteWorkerGroup,
  getWorkerGroup,
  listWorkerGroups,
  type Operator,
  updateWorkerGroup,
  type WorkerGroupRow,
} from "./groups.ts";
export { defaultWorkerGroupId, workTopic } from "./lifecycle.ts";
export { listRoutedEnvironments, routeEnvironment } from "./route.ts";
export {
  type BootstrapTokenRow,
  createBootstrapToken,
  ensureBootstrapToken,
  listBootstrapTokens,
  revokeBootstrapToken,
} from "./tokens.ts";
