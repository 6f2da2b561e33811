/** What is missing on this machine, in one message, each with the command that mends it. */
import { probeHost } from "@helmr/isolation";
import { StartError } from "./start-error.ts";

/** Thrown before anything is started; the message is complete for a person at a terminal. */
export class HostCheckError extends StartError {
  override readonly name = "HostCheckError";
}

/** Rejects with a HostCheckError that lists every problem together. */
export async function checkHost(runscPath: string): Promise<void> {
  const probe = await probeHost({ runscPath });
  if (probe.ok) return;
  const problems = probe.problems.map(({ what, mend }) => `  - ${what}\n      mend it with: ${mend}`);
  throw new HostCheckError(`this machine cannot run guests yet:\n${problems.join("\n")}`);
}
