/** The bridge of the current run, for the calls that exist only inside one. */
import { type RuntimeBridge, runtimeBridge } from "../runtime-bridge.ts";

/** Throws an Error naming `call` when there is no run. */
export function requireRun(call: string): RuntimeBridge {
  const bridge = runtimeBridge();
  if (bridge === undefined) {
    throw new Error(
      `${call} works only inside a run; call it from the run function of a task that Helmr executes`,
    );
  }
  return bridge;
}
