/** How a command or a terminal ended, in the words of the wire. */
import { constants } from "node:os";
import { headOf } from "./failure.ts";
import type { CommandEnd } from "./guest-command-types.ts";

export const maxEndText = 4_000;

/** `isAsked`: somebody has sent it a signal. What goes with its guest is terminated, too. */
export function execEnd(end: CommandEnd, isAsked: boolean) {
  switch (end.kind) {
    case "exited":
      return { state: "exited", exit_code: end.code } as const;
    case "signalled":
      return {
        state: isAsked ? "terminated" : "exited",
        signal: headOf(end.signal, 32),
        ...exitCodeOf(end.signal),
      } as const;
    case "failed":
      return { state: "failed", error: { message: headOf(end.error, maxEndText) } } as const;
    case "lost":
      return { state: "terminated", error: { message: headOf(end.reason, maxEndText) } } as const;
  }
}

export function ptyEnd(end: CommandEnd) {
  if (end.kind === "failed")
    return { state: "failed", error: { message: headOf(end.error, maxEndText) } } as const;
  if (end.kind === "lost")
    return { state: "closed", error: { message: headOf(end.reason, maxEndText) } } as const;
  return { state: "closed" } as const;
}

export function isSignal(name: string): name is NodeJS.Signals {
  return Object.hasOwn(constants.signals, name);
}

/** As a shell says it: 128 and the signal's number. */
function exitCodeOf(signal: string): { exit_code?: number } {
  return isSignal(signal) ? { exit_code: 128 + constants.signals[signal] } : {};
}
