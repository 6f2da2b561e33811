/** A deployment's build as it is watched: its events live, then the deployment as it ended. */
import type { ApiClient } from "../client/api-client.ts";
import { follow } from "../client/follow.ts";
import type { Deployment, Event } from "../client/wire.ts";
import { noteReconnect } from "../context.ts";
import { CliError, exitCodes } from "../errors.ts";

const terminalKinds = new Set(["deployment.deployed", "deployment.failed"]);

export const deploymentPath = (id: string): string => `/deployments/${encodeURIComponent(id)}`;
export const getDeployment = (api: ApiClient, id: string): Promise<Deployment> =>
  api.get(deploymentPath(id), { schema: "deployment" });

/** Every event of a deployment from its first, live until its last. */
export function followDeployment(api: ApiClient, id: string, signal?: AbortSignal): AsyncGenerator<Event> {
  return follow({
    api,
    path: `${deploymentPath(id)}/events`,
    schema: "event",
    isOver: async () => ["deployed", "failed"].includes((await getDeployment(api, id)).status),
    isLast: (event) => terminalKinds.has(event.kind),
    onReconnect: noteReconnect,
    ...(signal === undefined ? {} : { signal }),
  });
}

/** Watch until the build is over; throws exit code 124 after `timeoutMs`. The last event says why a build failed. */
export async function watchBuild(
  api: ApiClient,
  id: string,
  options: { readonly timeoutMs: number; readonly onEvent: (event: Event) => void },
): Promise<{ deployment: Deployment; last: Event | undefined }> {
  const timeout = AbortSignal.timeout(options.timeoutMs);
  let last: Event | undefined;
  try {
    for await (const event of followDeployment(api, id, AbortSignal.any([api.signal, timeout]))) {
      last = event;
      options.onEvent(event);
    }
  } catch (error) {
    if (!timeout.aborted || api.signal.aborted) throw error;
    throw new CliError(`the build is not over after ${options.timeoutMs / 1000} s; it goes on`, {
      exitCode: exitCodes.timedOut,
      hint: `\`helmr deployment events ${id} --follow\` shows it, \`helmr deployment promote ${id}\` makes it current when it is done`,
    });
  }
  return { deployment: await getDeployment(api, id), last };
}
