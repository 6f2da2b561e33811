/** `helmr-worker status` and `helmr-worker drain`: they talk to the worker that runs on the data folder. */
import { setTimeout as sleep } from "node:timers/promises";
import { parseDurationMs } from "@helmr/api";
import type { WorkerStatus } from "../status.ts";
import { askDrain, askStatus } from "./socket-client.ts";
import { progressText, statusText, summaryText, wasInterrupted } from "./status-text.ts";
import { maxTimeoutMs } from "./worker-socket.ts";

type Environment = Readonly<Record<string, string | undefined>>;
type Print = (text: string) => void;

interface FolderOption {
  readonly dataDir?: string | undefined;
}

const print: Print = (text) => void process.stdout.write(`${text}\n`);
const progressMs = 3_000;
/** After a drain the process has little to do. */
const exitLimitMs = 60_000;
/** Something had to be given back: it goes on elsewhere. */
export const interruptedExitCode = 3;

export async function showStatus(
  env: Environment,
  options: FolderOption & { readonly json?: boolean | undefined },
): Promise<void> {
  const status = await askStatus(folderOf(env, options));
  print(options.json === true ? JSON.stringify(status, null, 2) : statusText(status).trimEnd());
}

/** Drain, say what remains every few seconds, and what happened; ends when the worker's process has. */
export async function drainWorker(
  env: Environment,
  options: FolderOption & { readonly timeout?: string | undefined },
): Promise<void> {
  const timeoutMs = options.timeout === undefined ? undefined : timeoutOf(options.timeout);
  let toldAt = Number.NEGATIVE_INFINITY;
  let pid: number | undefined;
  const onStatus = (status: WorkerStatus) => {
    pid = status.pid;
    if (performance.now() - toldAt < progressMs) return;
    toldAt = performance.now();
    print(progressText(status));
  };
  const summary = await askDrain(folderOf(env, options), timeoutMs, onStatus);
  print(summaryText(summary));
  if (wasInterrupted(summary)) process.exitCode = interruptedExitCode;
  if (pid !== undefined && !(await hasEnded(pid)))
    throw new Error(`the worker is drained, and its process ${pid} has not ended; its log may say why`);
}

function folderOf(env: Environment, { dataDir }: FolderOption): string {
  const folder = dataDir ?? env.HELMR_WORKER_DATA_DIR?.trim();
  if (folder === undefined || folder === "")
    throw new Error(
      "set HELMR_WORKER_DATA_DIR, or --data-dir, to the data folder of the worker that you mean",
    );
  return folder;
}

function timeoutOf(text: string): number {
  const ms = /^0(?:ms|s|m|h)?$/.test(text) ? 0 : parseDurationMs(text);
  if (ms === undefined || ms > maxTimeoutMs)
    throw new Error("--timeout must be a duration like 30s, 10m or 2h, below 24 days");
  return ms;
}

async function hasEnded(pid: number): Promise<boolean> {
  const until = performance.now() + exitLimitMs;
  while (performance.now() < until) {
    try {
      process.kill(pid, 0);
    } catch {
      return true;
    }
    await sleep(100);
  }
  return false;
}
