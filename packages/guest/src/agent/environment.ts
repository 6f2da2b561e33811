/** What of the agent's own environment belongs to the image, and what a process reads only when it starts. */
import type { GuestUser } from "./users.ts";

/** Set by the worker for the agent alone; the task never sees them. */
export const agentVariables = {
  /** User of tasks and of the indexer: `name`, `uid`, `name:group` or `uid:gid`; absent: the agent's own (root). */
  taskUser: "HELMR_TASK_USER",
  /** `0`: no task host (build guests). */
  taskHost: "HELMR_TASK_HOST",
} as const;

/** Set by the shell that may be PID 1 (see `agentArgv`), not by the image. */
const shellVariables = ["PWD", "OLDPWD", "SHLVL", "_"];

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** Node and the dynamic loader read these at process start; setting `process.env` later would not do. */
const readAtStart =
  /^(NODE_(?!ENV$).*|LD_.*|SSL_CERT_(FILE|DIR)|OPENSSL_.*|UV_.*|MALLOC_.*|GLIBC_TUNABLES|LANG|LC_.*)$/;

/** The image's environment as a process of `user` gets it. */
export function imageEnvironment(
  agentEnv: NodeJS.ProcessEnv,
  user: GuestUser | undefined,
): Record<string, string> {
  const env: Record<string, string> = {};
  const own: readonly string[] = [...Object.values(agentVariables), ...shellVariables];
  for (const [name, value] of Object.entries(agentEnv)) {
    if (value !== undefined && !own.includes(name)) env[name] = value;
  }
  env.PATH ??= defaultPath;
  // The container runtime gives the first process root's HOME; for another user that is as good as none.
  if (env.HOME === undefined || (env.HOME === "/root" && user !== undefined && user.uid !== 0)) {
    env.HOME = user?.home ?? "/root";
  }
  return env;
}

/** Whether a process started with `present` differs from one started with `wanted` in more than `process.env`. */
export function needsRestart(present: Record<string, string>, wanted: Record<string, string>): boolean {
  const names = new Set(
    [...Object.keys(present), ...Object.keys(wanted)].filter((name) => readAtStart.test(name)),
  );
  return [...names].some((name) => present[name] !== wanted[name]);
}
