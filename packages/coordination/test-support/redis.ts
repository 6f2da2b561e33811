/** A server of the test's own, on a socket in a folder of its own: redis-server or valkey-server. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { vi } from "vitest";

export interface TestRedis {
  readonly url: string;
  /** Hold the process: it keeps its connections and answers nothing. */
  pause(): void;
  resume(): void;
  /** Ends the server, as kill -9 does; `start` brings it back on the same socket, empty. */
  kill(): Promise<void>;
  start(): Promise<void>;
  /** The reply to an inline command, as Redis writes it. */
  command(text: string): Promise<string>;
  stop(): Promise<void>;
}

export type RedisProgram = "redis-server" | "valkey-server";

/** Both, always: where one is missing its tests fail and say so. */
export const redisPrograms: readonly RedisProgram[] = ["redis-server", "valkey-server"];

/** `npm test` puts a Valkey into the cache where the distribution has none. */
function pathOf(program: RedisProgram): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  const cached = join(cache, "helmr/valkey/8", program);
  return existsSync(cached) ? cached : program;
}

export async function startRedis(program: RedisProgram = "redis-server"): Promise<TestRedis> {
  const folder = await mkdtemp(join(tmpdir(), "helmr-redis-"));
  const socket = join(folder, "s");
  let child: ChildProcess | undefined;
  const start = async () => {
    const started = spawn(
      pathOf(program),
      ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", folder],
      { stdio: "ignore" },
    );
    child = started;
    let problem: Error | undefined;
    started.once("error", (error) => {
      problem = error;
    });
    await vi.waitUntil(
      async () => {
        if (problem)
          throw new Error(
            `no ${program} here; \`node scripts/run.mjs scripts/install.ts\` installs it: ${problem.message}`,
          );
        return (await ask(socket, "PING"))?.startsWith("+PONG") ?? false;
      },
      { timeout: 30_000, interval: 20 },
    );
  };
  const kill = async () => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  };
  await start();
  return {
    url: `unix://${socket}`,
    pause: () => child?.kill("SIGSTOP"),
    resume: () => child?.kill("SIGCONT"),
    kill,
    start,
    command: async (text) => (await ask(socket, text)) ?? "",
    stop: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Undefined when nobody answers. */
function ask(socketPath: string, command: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(socketPath, () => socket.write(`${command}\r\n`));
    const end = (answer: string | undefined) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once("data", (data) => end(data.toString()));
    socket.once("error", () => end(undefined));
  });
}
