/** How a guest's first process is started. */
import { guestPaths } from "@helmr/guest-protocol/constants";
import { agentVariables } from "./agent/environment.ts";

/**
 * Arguments of the first process.
 *
 * Node reaps only children it started. With a shell as PID 1 (`hasShell`: the image has /bin/sh) orphans of the task
 * are reaped, too; without one they stay as zombies until the guest ends, which the process limit bounds.
 */
export function agentArgv(options: { readonly hasShell: boolean }): string[] {
  if (!options.hasShell) return ["node", guestPaths.agent];
  // A background command gets /dev/null as stdin unless it is given one: descriptor 3 keeps the stream.
  const script = `exec 3<&0; node ${guestPaths.agent} <&3 3<&- & exec 0<&- 3<&- 1>&-; wait $!; exit $?`;
  return ["/bin/sh", "-c", script];
}

/** Variables of the agent, to be put beside the image's environment. `taskUser`: `name|uid[:group|:gid]`. */
export function agentEnvironment(options: {
  readonly taskUser?: string | undefined;
  /** false in build guests. Default true. */
  readonly taskHost?: boolean;
}): Record<string, string> {
  return {
    ...(options.taskUser === undefined ? {} : { [agentVariables.taskUser]: options.taskUser }),
    ...(options.taskHost === false ? { [agentVariables.taskHost]: "0" } : {}),
  };
}
