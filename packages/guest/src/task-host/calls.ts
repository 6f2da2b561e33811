/** What the task asked Helmr for and was not answered yet, by number. */
import type { CallMethod, CallResult } from "@helmr/guest-protocol";
import { limits } from "@helmr/guest-protocol/constants";

/** A refusal; `code` is one of the API's (`stream_not_found`). */
class CallError extends Error {
  override readonly name = "HelmrCallError";
  readonly code: string | undefined;
  constructor(message: string, code: string | undefined) {
    super(message);
    this.code = code;
  }
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class Calls {
  readonly #send: (call: { call_id: number; method: CallMethod; params_json: string }) => void;
  readonly #pending = new Map<number, Pending>();
  #last = 0;

  constructor(send: (call: { call_id: number; method: CallMethod; params_json: string }) => void) {
    this.#send = send;
  }

  /** Resolves with the answer as plain JSON. */
  make(method: CallMethod, params: Record<string, unknown>): Promise<unknown> {
    if (this.#pending.size >= limits.pendingCalls) {
      return Promise.reject(
        new RangeError(`${limits.pendingCalls} calls to Helmr have no answer yet; await them first.`),
      );
    }
    const params_json = JSON.stringify(params);
    if (Buffer.byteLength(params_json) > limits.callBytes) {
      return Promise.reject(new RangeError(`A call to Helmr may take ${limits.callBytes} bytes.`));
    }
    this.#last += 1;
    const call_id = this.#last;
    return new Promise((resolve, reject) => {
      this.#pending.set(call_id, { resolve, reject });
      this.#send({ call_id, method, params_json });
    });
  }

  settle(callId: number, result: CallResult): void {
    const pending = this.#pending.get(callId);
    if (pending === undefined) return;
    this.#pending.delete(callId);
    if (result.ok) pending.resolve(JSON.parse(result.value_json));
    else pending.reject(new CallError(result.message, result.code));
  }
}
