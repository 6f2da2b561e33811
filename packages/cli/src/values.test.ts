import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { durationMs, integer, jsonObject, jsonValue, seconds } from "./values.ts";

describe("durations", () => {
  it.each([
    ["90s", 90_000],
    ["1h30m", 5_400_000],
    ["500ms", 500],
    ["1.5h", 5_400_000],
    ["2d", 172_800_000],
  ])("%s", (text, ms) => expect(durationMs(text)).toBe(ms));
  it.each(["", "0s", "10", "1x", "-1s", "1h 30m", "s"])("%j is none", (text) =>
    expect(() => durationMs(text)).toThrow(/duration/),
  );
  it("may be given as seconds where the API counts them", () => {
    expect(seconds("90")).toBe(90);
    expect(seconds("2m")).toBe(120);
  });
});

it("whole numbers have bounds", () => {
  expect(integer(1, 5)("5")).toBe(5);
  for (const text of ["0", "6", "1.5", "a", ""]) expect(() => integer(1, 5)(text)).toThrow(/whole number/);
});

it("JSON comes as text or from a file, and says what is wrong with it", async () => {
  expect(await jsonValue("[1]", "--payload")).toEqual([1]);
  const dir = await mkdtemp(join(tmpdir(), "helmr-values-"));
  await writeFile(join(dir, "p.json"), '{"a":1}');
  expect(await jsonValue(`@${join(dir, "p.json")}`, "--payload")).toEqual({ a: 1 });
  await rm(dir, { recursive: true });
  await expect(jsonValue("{a}", "--payload")).rejects.toThrow(/--payload is not valid JSON/);
  await expect(jsonValue("@/no/such", "--payload")).rejects.toThrow(/cannot read the file of --payload/);
  const deep = `${"[".repeat(20_000)}${"]".repeat(20_000)}`;
  await expect(jsonValue(deep, "--payload")).rejects.toThrow("--payload is nested deeper than 200 levels");
  await expect(jsonObject("[]", "--metadata")).rejects.toThrow(/must be a JSON object/);
});
