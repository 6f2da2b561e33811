/**
 * A server of the test's own, on a socket in a folder of its own: redis-server, or valkey-server where it is installed (in
 * Debian's backports).
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
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

/** Redis, which tests need, and Valkey where it is there. */
export function redisPrograms(): readonly RedisProgram[] {
  const hasValkey = spawnSync("valkey-server", ["--version"], { stdio: "ignore" }).status === 0;
  return hasValkey ? ["redis-server", "valkey-server"] : ["redis-server"];
}

export async function startRedis(program: RedisProgram = "redis-server"): Promise<TestRedis> {
  const folder = await mkdtemp(join(tmpdir(), "helmr-redis-"));
  const socket = join(folder, "s");
  let child: ChildProcess | undefined;
  const start = async () => {
    const started = spawn(
      program,
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
        if (problem) throw new Error(`install the package ${program}: ${problem.message}`);
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
