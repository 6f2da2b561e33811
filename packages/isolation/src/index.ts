/** @helmr/isolation: the Isolation interface, its drivers and the host helpers the worker shares with them. */
export {
  type CheckpointFile,
  type CheckpointHost,
  type CheckpointRecord,
  type Compatibility,
  checkpointRecord,
  isCompatible,
} from "./checkpoint.ts";
export { IsolationError, type IsolationLayer } from "./errors.ts";
export { createGvisorIsolation } from "./gvisor/driver.ts";
export type { GvisorOptions } from "./gvisor/options.ts";
export {
  type HostProbe,
  type HostProblem,
  probeBoot,
  probeHost,
  runscInstallCommand,
} from "./gvisor/preflight.ts";
export {
  createWorkspaceDisk,
  mountDisk,
  probeLoopDisks,
  recoverDisks,
  unmountDisk,
  type WorkspaceDisk,
  type WorkspaceDiskOptions,
} from "./host/disk.ts";
export {
  isMountPoint,
  mountOverlay,
  mountTmpfs,
  type OverlaySpec,
  unmount,
  unmountBelow,
} from "./host/mounts.ts";
export { GATEWAY_ADDRESS } from "./host/netns.ts";
export { removeTree } from "./host/remove-tree.ts";
export type * from "./isolation.ts";
export type { IsolationLogger } from "./logger.ts";
