/**
 * One run as the agent sees it: a started task host, its messages and its end.
 *
 * | state    | entered by                         | left by                                              |
 * |----------|------------------------------------|------------------------------------------------------|
 * | running  | startRun                           | outcome from the host, its exit, or a violation      |
 * | ending   | outcome known or process gone      | process gone, leftovers killed, output relayed       |
 * | finished | `run.finished` accepted by the link | never                                                |
 *
 *  A1  Exactly one `run.finished` per run.
 *  A2  Everything the task printed is in the link before `run.finished` (the link keeps the order).
 *  A3  When `run.finished` is sent, no process of the task is left and no secret file is left in the workspace. What
 *      operators started goes on (kill.ts, K1 to K3), with whatever of the task's took their mark.
 *  A4  Every wait for the task's processes is bounded.
 */
import type { GuestMessage, RunOutcome } from "@helmr/guest-protocol";
import type { RunStart, ToHost } from "../host-protocol.ts";
import { fromHost, readMessages, writeMessage } from "./host-channel.ts";
import { killTaskLeftovers, trySignal } from "./kill.ts";
import type { Operators } from "./operators.ts";
import { OutputRelay } from "./relay.ts";
import type { PlacedSecrets } from "./secrets.ts";
import type { GuestProcess, ProcessExit } from "./task-process.ts";

/** For `exit` listeners of the author and Node's own teardown. */
const exitLimitMs = 2_000;
/** For pipes held open by a process out of reach. */
const outputLimitMs = 2_000;

type Send = (message: GuestMessage) => Promise<void>;

export interface ActiveRun {
  cancel(reason: string): void;
  /** The answer of a call of the task. */
  tell(message: Extract<ToHost, { type: "call.result" }>): void;
  /** The guest was restored: the task host is told before anything else. */
  restored(): void;
  readonly finished: Promise<void>;
}

/** Hand a run to a host that is ready. */
export function startRun(
  start: RunStart,
  host: GuestProcess,
  secrets: PlacedSecrets,
  env: Record<string, string>,
  operators: Operators,
  send: Send,
): ActiveRun {
  let cancelReason: string | undefined;
  let reported: RunOutcome | undefined;
  const relay = new OutputRelay(host.stdout, host.stderr, (stream, data) =>
    send({ type: "log", stream, data, at_ms: Date.now() }),
  );
  const settled = new Promise<void>((resolve) => {
    readMessages(
      host.channel,
      fromHost,
      async (message) => {
        if (reported !== undefined || message.type === "ready") return;
        if (message.type === "run.finished") {
          reported = message.outcome;
          resolve();
        } else await send(message);
      },
      () => {
        reported ??= brokenChannel();
        trySignal(host.child.pid ?? 0, "SIGKILL");
        resolve();
      },
    );
    void host.exited.then(() => resolve());
  });

  const { secrets: _, ...rest } = start;
  writeMessage(host.channel, { ...rest, env });

  const finish = async (): Promise<void> => {
    await settled;
    const exit = await endOf(host);
    await killTaskLeftovers(host.child.pid ?? 0, operators); // A3
    await within(relay.ended, outputLimitMs, () => relay.stop()); // A2, A4
    secrets.remove(); // A3
    // The host may have sent its outcome and ended at once; what is in the pipe counts.
    const outcome =
      reported ??
      (cancelReason === undefined ? outcomeOfExit(exit) : { status: "cancelled", reason: cancelReason });
    await send({ type: "run.finished", outcome });
  };
  return {
    cancel: (reason) => {
      cancelReason ??= reason;
      writeMessage(host.channel, { type: "run.cancel", reason });
    },
    tell: (message) => writeMessage(host.channel, message),
    restored: () => writeMessage(host.channel, { type: "run.restored" }),
    finished: finish(),
  };
}

/** The process's end, forced when it does not come by itself. */
async function endOf(host: GuestProcess): Promise<ProcessExit> {
  await within(host.exited, exitLimitMs, () => trySignal(host.child.pid ?? 0, "SIGKILL"));
  const exit = await host.exited;
  // The channel's last messages may still be on their way.
  if (!host.channel.readableEnded && !host.channel.destroyed) {
    await within(
      new Promise<void>((resolve) => host.channel.once("close", () => resolve())),
      200,
      () => undefined,
    );
  }
  return exit;
}

async function within(promise: Promise<unknown>, limitMs: number, onLimit: () => void): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(() => {
      onLimit();
      resolve();
    }, limitMs);
  });
  await Promise.race([promise, limit]);
  clearTimeout(timer);
}

function brokenChannel(): RunOutcome {
  const message = "The task wrote to file descriptor 3, which belongs to Helmr; leave that descriptor alone.";
  return { status: "failed", failure_kind: "task_failed", error: { name: "TaskProcessError", message } };
}

/** What the author reads when the task process ended without a result. */
export function outcomeOfExit(exit: ProcessExit): RunOutcome {
  const failure = (message: string): RunOutcome => ({
    status: "failed",
    failure_kind: "task_failed",
    error: { name: "TaskProcessError", message },
    ...(exit.code === undefined ? {} : { exit_code: exit.code }),
    ...(exit.signal === undefined ? {} : { signal: exit.signal }),
  });
  if (exit.error !== undefined)
    return failure(`The task process could not be started: ${exit.error.message}`);
  if (exit.signal === "SIGKILL") {
    return failure(
      "The task process was killed (SIGKILL). If the task did not do this itself, the sandbox ran out of memory: " +
        'raise it with sandbox(...).resources({ memory: "4Gi" }).',
    );
  }
  if (exit.signal === "SIGABRT" || exit.code === 134) {
    return failure(
      "The task process aborted (SIGABRT). The usual cause is a full JavaScript heap, see its last lines of stderr: " +
        "raise the sandbox's memory, or set NODE_OPTIONS=--max-old-space-size=<MiB>.",
    );
  }
  if (exit.signal !== undefined) return failure(`The task process was ended by the signal ${exit.signal}.`);
  return failure(
    `The task process exited with code ${exit.code} before the task returned (process.exit or a crash). ` +
      "Return from run() to succeed, or throw an Error to fail.",
  );
}
