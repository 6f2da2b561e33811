/** Idempotency keys against Node's own SHA-256 (contract 13.9). */
import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { idempotencyKeys } from "../index.ts";
import { idempotencyValue } from "./idempotency.ts";

const sha256 = (text: string) => createHash("sha256").update(text, "utf8").digest("hex");

describe("idempotencyKeys.create", () => {
  it("hashes scope and parts; a text is one part", async () => {
    const value = sha256('{"scope":"global","key":["order-1"]}');
    expect(await idempotencyKeys.create("order-1")).toEqual({ value, key: "order-1", scope: "global" });
    expect(await idempotencyKeys.create(["order-1"], { scope: "global" })).toEqual({
      value,
      key: ["order-1"],
      scope: "global",
    });
  });

  it("agrees with JSON and SHA-256 for all parts", async () => {
    const parts = fc
      .array(fc.string({ unit: "binary" }), { minLength: 1 })
      .filter((list) => list.some((part) => part !== ""));
    await fc.assert(
      fc.asyncProperty(parts, async (key) => {
        expect((await idempotencyKeys.create(key)).value).toBe(
          sha256(JSON.stringify({ scope: "global", key })),
        );
      }),
    );
  });

  it.each([[""], [[]], [["", ""]], [5], [["a", 5]], [null]])("refuses %j", async (key) => {
    await expect(idempotencyKeys.create(key as never)).rejects.toThrow("idempotencyKeys.create(key)");
  });

  it("refuses other scopes", async () => {
    await expect(idempotencyKeys.create("a", { scope: "run" as never })).rejects.toThrow(
      'must be "global", got "run"',
    );
  });
});

describe("idempotencyValue", () => {
  it("takes raw and created keys", async () => {
    const created = await idempotencyKeys.create(["a", "b"]);
    expect(await idempotencyValue(["a", "b"])).toBe(created.value);
    expect(await idempotencyValue(created)).toBe(created.value);
    expect(await idempotencyValue("a")).toMatch(/^[0-9a-f]{64}$/);
  });
});
