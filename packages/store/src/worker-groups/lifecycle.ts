/**
 * Worker groups: where work is routed.
 *
 *   (none)   createWorkerGroup              -> there
 *   there    updateWorkerGroup              its name and labels; `default` keeps its name (G1)
 *   there    routeEnvironment               what is deployed next in the environment goes there (G2)
 *   there    deleteWorkerGroup              -> (none), when nothing refers to it (G3)
 *
 * Bootstrap tokens: createBootstrapToken -> good -> expired | revokeBootstrapToken -> revoked. They are kept, for who came with them.
 *
 *   G1  `default` is always there, under its name and id: what names no group goes there.
 *   G2  A deployment keeps the group that its environment had when it was created; its build, its runs and the live copies of
 *       its workspaces go there. So nothing that is queued is moved.
 *   G3  A group goes only without workers, environments and deployments: nothing is left that no worker would take.
 */
export const defaultWorkerGroupId = "00000000-0000-7000-8000-000000000001";

/** Where queued work of a group is hinted. */
export function workTopic(workerGroupId: string): string {
  return `work:${workerGroupId === defaultWorkerGroupId ? "default" : workerGroupId}`;
}
