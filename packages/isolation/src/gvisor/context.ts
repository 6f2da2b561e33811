/** What all guests of one driver instance share. */
import type { CgroupSupport } from "../host/cgroup.ts";
import type { probeLoopDisks } from "../host/disk.ts";
import type { IsolationLogger } from "../logger.ts";
import type { NetworkManager } from "./network.ts";
import type { GvisorSettings } from "./options.ts";
import type { RootStore } from "./roots.ts";

export interface HostContext {
  readonly settings: GvisorSettings;
  readonly cgroups: CgroupSupport;
  readonly loopDisks: Awaited<ReturnType<typeof probeLoopDisks>>;
  readonly roots: RootStore;
  readonly network: NetworkManager;
  readonly logger: IsolationLogger;
}
