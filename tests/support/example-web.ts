/** The web server of an example as a child process. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { repositoryRoot } from "./cli.ts";
import { stackEnv } from "./client.ts";

export interface ExampleWeb {
  readonly url: string;
  stop(): Promise<void>;
}

const startTimeoutMs = 60_000;

/** Of `examples/<name>`; resolves when it listens. */
export async function startExampleWeb(
  name: string,
  env: Readonly<Record<string, string>> = {},
): Promise<ExampleWeb> {
  const child = spawn(process.execPath, [join(repositoryRoot, "examples", name, "web/server.ts")], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, ...stackEnv(), PORT: "0", ...env },
  });
  const stop = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null && child.kill("SIGKILL"))
      await once(child, "exit");
  };
  try {
    const lines = createInterface({ input: child.stdout });
    const signal = AbortSignal.timeout(startTimeoutMs);
    const ended = once(child, "exit", { signal }).then(() => {
      throw new Error("the example's web server ended before it listened");
    });
    const [url] = (await Promise.race([once(lines, "line", { signal }), ended])) as [string];
    return { url, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
