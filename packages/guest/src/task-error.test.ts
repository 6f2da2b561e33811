import { limits, taskError } from "@helmr/guest-protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { boundedText, describeThrown } from "./task-error.ts";

describe("task errors", () => {
  it("describe any thrown value within the limits of the protocol", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.anything({ withBigInt: true, withNullPrototype: true }),
          fc.string().map((m) => new Error(m)),
        ),
        (thrown) => {
          expect(taskError.safeParse(describeThrown(thrown)).success).toBe(true);
        },
      ),
    );
  });

  it("name what an AggregateError holds, without end", () => {
    const many = Array.from({ length: 9 }, (_, n) => new Error(`inner ${n}`));
    const { message } = describeThrown(new AggregateError(many, "All promises were rejected"));
    expect(message).toMatch(/^All promises were rejected \(Error: inner 0; .*Error: inner 4; and 4 more\)$/);
    const nested = new AggregateError([], "itself");
    nested.errors.push(nested, "text");
    expect(describeThrown(nested).message).toContain("The task threw a string instead of an Error: 'text'");
  });

  it("show the author's frames and not those of Helmr beneath them", () => {
    const error = new Error("broken");
    error.stack = [
      "Error: broken",
      "    at audit (file:///opt/helmr-task/.helmr/deployment-source/tasks/audit.ts:3:9)",
      "    at file:///opt/helmr-task/node_modules/zod/index.js:1:1",
      "    at file:///opt/helmr/sdk/lib/internal.js:54:34",
      "    at process.processTicksAndRejections (node:internal/process/task_queues:104:5)",
      "    at async execute (file:///opt/helmr/task-host.mjs:3:3217)",
    ].join("\n");
    expect(describeThrown(error).stack?.split("\n")).toEqual(error.stack.split("\n").slice(0, 3));
  });

  it("cut texts between characters", () => {
    const cut = boundedText("é".repeat(limits.errorTextBytes));
    expect(cut).toMatch(/^é+… \[truncated\]$/);
    expect(Buffer.byteLength(cut)).toBeLessThan(limits.errorTextBytes + 64);
  });
});
