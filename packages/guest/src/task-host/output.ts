/** Turns a task's return value into JSON within the limit, or into the failure the author sees. */
import type { RunOutcome } from "@helmr/guest-protocol";
import { limits } from "@helmr/guest-protocol/constants";
import { describeThrown } from "../task-error.ts";

/** `undefined` is a success without output; everything else must survive JSON. */
export function outcomeOf(value: unknown): RunOutcome {
  if (value === undefined) return { status: "succeeded" };
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch (error) {
    return notSerializable(error instanceof Error ? error.message : String(error));
  }
  if (json === undefined) return notSerializable(`it is a ${typeof value}`);
  const size = Buffer.byteLength(json);
  if (size > limits.outputBytes) {
    const message =
      `The task's return value takes ${size} bytes as JSON; the limit is ${limits.outputBytes}. ` +
      "Write large results to a file in the workspace and return its path.";
    return {
      status: "failed",
      failure_kind: "output_too_large",
      error: { name: "OutputTooLargeError", message },
    };
  }
  return { status: "succeeded", output_json: json };
}

function notSerializable(reason: string): RunOutcome {
  const { message } = describeThrown(
    new Error(`The task's return value cannot be written as JSON: ${reason}`),
  );
  return {
    status: "failed",
    failure_kind: "output_not_serializable",
    error: { name: "OutputNotSerializableError", message },
  };
}
