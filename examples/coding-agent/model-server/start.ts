/** Starts the scripted model as a child process and says where it listens. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

export interface ModelServer {
  readonly baseUrl: string;
  stop(): void;
}

const startTimeoutMs = 30_000;

export async function startModelServer(): Promise<ModelServer> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "server.ts")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const signal = AbortSignal.timeout(startTimeoutMs);
  try {
    // Its first line is its address; when it ends before that, there is none.
    const lines = createInterface({ input: child.stdout });
    const [line] = (await Promise.race([
      once(lines, "line", { signal }),
      once(lines, "close", { signal }),
    ])) as [string | undefined];
    if (line === undefined) throw new Error(`the scripted model ended with exit code ${child.exitCode}`);
    return { baseUrl: line, stop: () => child.kill() };
  } catch (error) {
    child.kill();
    throw error;
  }
}
