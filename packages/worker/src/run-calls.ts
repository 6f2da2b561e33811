/**
 * What the task of one run asks of Helmr: checked, bounded, asked for at the control plane, answered to the guest.
 *
 * | a call           | is answered                                                          |
 * |------------------|----------------------------------------------------------------------|
 * | wait             | when the wait is over: at once, or days later and after a restore    |
 * | stream.append    | when the record is stored                                            |
 * | stream.read      | with what is there within its time                                   |
 * | token.create     | with the token and its secrets                                       |
 *
 * | state     | enters by               | a call that comes                                   |
 * |-----------|-------------------------|-----------------------------------------------------|
 * | suspended | construction, suspend   | is held                                             |
 * | open      | start                   | is asked for; held ones first                       |
 * | closed    | close                   | is dropped                                          |
 *
 *  I1  The guest is hostile: parameters are checked against the wire's schemas, calls without an answer are bounded.
 *  I2  A lost lease ends the run; a refusal of the control plane is the task's error, with its code.
 *  I3  At most one wait is pending.
 *  I4  When `suspend` has resolved, every call that came is answered, held, or the pending wait.
 */
import {
  appendOutputRequest,
  createRunTokenRequest,
  createWaitRequest,
  readStreamRequest,
  type WaitState,
  type WorkerRecord,
} from "@helmr/api";
import { type CallMethod, type CallResult, type GuestMessage, limits } from "@helmr/guest-protocol";
import type { z } from "zod";
import { type ControlPlaneClient, LeaseLostError, RequestRefusedError } from "./control-plane-client.ts";
import { headOf, messageOf } from "./failure.ts";
import type { WaitPoller } from "./wait-poller.ts";

type GuestCall = Extract<GuestMessage, { type: "call" }>;

/** A wait that is not over: what parking needs to know. */
export interface PendingWait {
  readonly waitId: string;
  readonly callId: number;
  /** Of a timer: when it is over, by this worker's clock. */
  readonly dueAtMs?: number;
}

export interface RunCallsOptions {
  readonly leaseId: string;
  readonly fencing: number;
  readonly client: ControlPlaneClient;
  readonly waits: WaitPoller;
  readonly answer: (callId: number, result: CallResult) => void;
  /** The lease is lost, or the control plane is away for too long. */
  readonly onFailure: (error: unknown) => void;
  /** A wait is pending from now on, or is not any more. */
  readonly onWait: (wait: PendingWait | undefined) => void;
  readonly signal: AbortSignal;
}

/** Parameters as the guest sends them: the wire's, without what the worker adds. */
const parameters = {
  wait: createWaitRequest.omit({ fencing: true, number: true }),
  "stream.append": appendOutputRequest.omit({ fencing: true, number: true }),
  "stream.read": readStreamRequest.omit({ fencing: true }),
  "token.create": createRunTokenRequest.omit({ fencing: true, number: true }),
} as const satisfies Record<CallMethod, z.ZodType>;

export class RunCalls {
  readonly #options: RunCallsOptions;
  #state: "suspended" | "open" | "closed" = "suspended";
  readonly #held: GuestCall[] = [];
  readonly #serving = new Map<number, Promise<void>>();
  /** Aborts reads that wait for a record: the task asks again, or the read is held. */
  #reads = new AbortController();
  #wait: PendingWait | undefined;
  #unwatch: (() => void) | undefined;

  constructor(options: RunCallsOptions) {
    this.#options = options;
  }

  /** The wait that is pending, if one is. */
  get pendingWait(): PendingWait | undefined {
    return this.#wait;
  }

  /** Calls that came while suspended, in order. */
  get held(): readonly GuestCall[] {
    return this.#held;
  }

  /** The lease counts: serve what was held (`more`: by a checkpoint) and what comes. */
  start(more: readonly GuestCall[] = []): void {
    if (this.#state !== "suspended") return;
    this.#state = "open";
    this.#reads = new AbortController();
    for (const call of [...more, ...this.#held.splice(0)]) this.#begin(call);
  }

  /** I4 */
  async suspend(): Promise<void> {
    if (this.#state !== "open") return;
    this.#state = "suspended";
    this.#reads.abort();
    await Promise.all(this.#serving.values());
  }

  /** Take a call of the guest; undefined, or what makes it a violation (I1). */
  receive(call: GuestCall): string | undefined {
    if (this.#state === "closed") return undefined;
    if (this.#serving.size + this.#held.length >= limits.pendingCalls)
      return `has more than ${limits.pendingCalls} calls without an answer`;
    if (this.#state === "suspended") this.#held.push(call);
    else this.#begin(call);
    return undefined;
  }

  /** Go on watching a wait whose guest was restored before it was over. */
  watch(wait: PendingWait): void {
    this.#wait = wait;
    this.#unwatch = this.#options.waits.watch(wait.waitId, (state) => this.resolved(wait, state));
    this.#options.onWait(wait);
  }

  /** The wait is over: tell the task. */
  resolved(wait: Pick<PendingWait, "callId">, state: WaitState): void {
    this.#forget();
    this.#options.answer(wait.callId, { ok: true, value_json: waitAnswer(state) });
    this.#options.onWait(undefined);
  }

  /** Nothing more is asked or told. */
  close(): void {
    this.#state = "closed";
    this.#reads.abort();
    this.#forget();
  }

  #forget(): void {
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.#wait = undefined;
  }

  #begin(call: GuestCall): void {
    const parsed = parameters[call.method].safeParse(jsonOf(call.params_json));
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      const where = issue?.path.join(".") ?? "";
      this.#refuse(call.call_id, `${call.method}: ${where}: ${issue?.message ?? "not valid"}`);
    } else if (call.method === "wait" && this.#wait !== undefined) {
      this.#refuse(call.call_id, "this run waits already; a run waits for one thing at a time");
    } else {
      const serving = this.#serve(call, parsed.data).finally(() => this.#serving.delete(call.call_id));
      this.#serving.set(call.call_id, serving);
    }
  }

  async #serve(call: GuestCall, params: unknown): Promise<void> {
    const { call_id: callId, method } = call;
    const reads = this.#reads.signal;
    try {
      if (method === "wait") await this.#beginWait(callId, params as z.output<(typeof parameters)["wait"]>);
      else
        this.#options.answer(callId, {
          ok: true,
          value_json: await this.#ask(method, callId, params, reads),
        });
    } catch (error) {
      if (error instanceof RequestRefusedError)
        this.#refuse(callId, error.text, error.code); // I2
      else if (method === "stream.read" && reads.aborted && !(error instanceof LeaseLostError)) {
        if (this.#state === "suspended") this.#held.push(call); // I4
      } else if (!this.#options.signal.aborted || error instanceof LeaseLostError)
        this.#options.onFailure(error);
    }
  }

  async #beginWait(callId: number, params: z.output<(typeof parameters)["wait"]>): Promise<void> {
    const { leaseId, fencing, client, signal } = this.#options;
    const state = await client.createWait(leaseId, { fencing, number: callId, ...params }, signal);
    const { wait_for: waitFor } = params;
    const due = waitFor.kind === "timer" ? { dueAtMs: Date.parse(waitFor.due_at) } : {};
    if (state.status === "pending") this.watch({ waitId: state.wait_id, callId, ...due });
    else this.#options.answer(callId, { ok: true, value_json: waitAnswer(state) });
  }

  async #ask(
    method: Exclude<CallMethod, "wait">,
    number: number,
    params: unknown,
    reads: AbortSignal,
  ): Promise<string> {
    const { leaseId, fencing, client, signal } = this.#options;
    if (method === "token.create") {
      const body = { fencing, number, ...(params as z.output<(typeof parameters)["token.create"]>) };
      return JSON.stringify(await client.createToken(leaseId, body, signal));
    }
    if (method === "stream.append") {
      const body = { fencing, number, ...(params as z.output<(typeof parameters)["stream.append"]>) };
      const { record } = await client.appendOutput(leaseId, body, signal);
      return `{"record":${recordText(record)}}`;
    }
    const body = { fencing, ...(params as z.output<(typeof parameters)["stream.read"]>) };
    const either = AbortSignal.any([signal, reads]);
    const { records, after_sequence } = await client.readStream(leaseId, body, either);
    return `{"records":[${records.map(recordText).join(",")}],"after_sequence":${after_sequence}}`;
  }

  #refuse(callId: number, message: string, code?: string): void {
    this.#options.answer(callId, {
      ok: false,
      message: headOf(message, 2000),
      ...(code === undefined ? {} : { code }),
    });
  }
}

/** `{status, result?}`; the result's text is kept as it was stored. */
function waitAnswer({ status, result_json }: WaitState): string {
  return status === "completed"
    ? `{"status":"completed","result":${result_json ?? "null"}}`
    : JSON.stringify({ status });
}

function recordText({ data_json, ...head }: WorkerRecord): string {
  return `${JSON.stringify(head).slice(0, -1)},"data":${data_json}}`;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return messageOf(error);
  }
}
