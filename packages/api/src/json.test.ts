/** Canonical JSON: one text per value; what jsonb cannot hold is recognised. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { canonicalJson, isStorableJson, isWritableJson, withinDepth } from "./json.ts";

test("canonical text parses to the same value and does not depend on key order", () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = canonicalJson(value);
      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)));
      expect(canonicalJson(reversed(value))).toBe(text);
    }),
  );
});

function reversed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reversed);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).reverse();
  return Object.fromEntries(entries.map(([key, member]) => [key, reversed(member)]));
}

test("undefined members are absent", () => {
  expect(canonicalJson({ b: 1, a: undefined })).toBe('{"b":1}');
  expect(canonicalJson(undefined)).toBe("null");
});

test("depth is counted without recursion", () => {
  let deep: unknown = 0;
  for (let i = 0; i < 100_000; i += 1) deep = [deep];
  expect(withinDepth(deep)).toBe(false);
  expect(withinDepth([[[]]], 2)).toBe(true);
  expect(withinDepth([[[1]]], 2)).toBe(false);
});

test("what jsonb refuses", () => {
  for (const bad of ["\0", "\ud800", { "\0": 1 }, { a: ["\udc00"] }]) expect(isStorableJson(bad)).toBe(false);
  for (const good of [null, undefined, "\u{1f600}", { a: [null, true, 1, "x"] }, []])
    expect(isStorableJson(good)).toBe(true);
});

test("what cannot be written as it was sent", () => {
  expect(isWritableJson(JSON.parse('{"a":[1e400]}'))).toBe(false);
  expect(isStorableJson(JSON.parse("-1e400"))).toBe(false);
  expect(isWritableJson({ "\0": ["\ud800", 1e308, null] })).toBe(true);
});
