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

  it("cut texts between characters", () => {
    const cut = boundedText("é".repeat(limits.errorTextBytes));
    expect(cut).toMatch(/^é+… \[truncated\]$/);
    expect(Buffer.byteLength(cut)).toBeLessThan(limits.errorTextBytes + 64);
  });
});
