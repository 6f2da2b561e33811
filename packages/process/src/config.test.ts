import { expect, test } from "vitest";
import { z } from "zod";
import { ConfigError, describeVariables, readConfig } from "./config.ts";

const shape = {
  HELMR_A: z.string().regex(/^a+$/, "must be letters a").describe("the first"),
  HELMR_B: z.string().optional().describe("the second"),
  HELMR_C: z.string().default("c").describe("the third"),
};

test("values, defaults, and empty variables, which are not set", () => {
  expect(readConfig(shape, { HELMR_A: " aa ", HELMR_B: "", HELMR_C: " " })).toEqual({
    HELMR_A: "aa",
    HELMR_B: undefined,
    HELMR_C: "c",
  });
});

test("every problem at once, those between variables too, and no value", () => {
  const between = (values: { HELMR_A?: string; HELMR_B?: string | undefined }) =>
    values.HELMR_B === "planted" ? ["HELMR_B: does not go with HELMR_A"] : [];
  const wrong = () => readConfig(shape, { HELMR_A: "secret-value", HELMR_B: "planted" }, between);
  expect(wrong).toThrow(ConfigError);
  expect(wrong).toThrow(
    "the configuration is not valid:\n  HELMR_A: must be letters a\n  HELMR_B: does not go with HELMR_A",
  );
  expect(() => readConfig(shape, {})).toThrow("HELMR_A: is required (the first)");
});

test("what the documentation lists", () => {
  expect(describeVariables(shape)).toEqual([
    { name: "HELMR_A", description: "the first", standard: "required" },
    { name: "HELMR_B", description: "the second", standard: "" },
    { name: "HELMR_C", description: "the third", standard: "c" },
  ]);
});
