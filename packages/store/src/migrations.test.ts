/** What upgrades that roll need of every migration (decision 0018). */
import { describe, expect, test } from "vitest";
import { migrationNumber, readMigrations } from "./migrations.ts";

/** 0005 and before it were there before versions could run side by side. */
const since = "0006";

/** What an older version that goes on would stumble over; whoever needs one of them says `none`. */
const breaking: readonly (readonly [what: string, pattern: RegExp])[] = [
  ["drops a table", /\bdrop\s+table\b/],
  ["drops a column", /\bdrop\s+column\b/],
  ["renames", /\brename\s+(?:to|column|constraint)\b/],
  ["changes the type of a column", /\balter\s+(?:column\s+)?\w+\s+(?:set\s+data\s+)?type\b/],
  ["demands a value that older versions do not write", /\bset\s+not\s+null\b/],
  [
    "adds a column that older versions do not fill",
    /\badd\s+column\b(?![^;,]*\b(?:default|generated)\b)[^;,]*\bnot\s+null\b/,
  ],
];

const problems = (text: string): string[] => {
  const code = text.replaceAll(/--.*$/gm, "").toLowerCase();
  return breaking.filter(([, pattern]) => pattern.test(code)).map(([what]) => what);
};

const migrations = (await readMigrations()).filter(({ name }) => migrationNumber(name) >= since);

test("their numbers have four digits, each its own", async () => {
  const names = (await readMigrations()).map(({ name }) => name);
  for (const name of names) expect(name).toMatch(/^\d{4}_[a-z_]+\.sql$/);
  expect(new Set(names.map(migrationNumber)).size).toBe(names.length);
});

test("each says from which version on it is compatible, or that none is", () => {
  const silent = migrations.filter(({ text }) => !/^-- compatible-with: (?:\d{4}|none)$/m.test(text));
  expect(silent.map(({ name }) => `${name}: add a line like "-- compatible-with: 0005"`)).toEqual([]);
  for (const { name, compatibleWith } of migrations) {
    if (compatibleWith !== undefined) expect(compatibleWith < migrationNumber(name), name).toBe(true);
  }
});

test("one that older versions go on with only adds", () => {
  const compatible = migrations.filter(({ compatibleWith }) => compatibleWith !== undefined);
  expect(compatible.flatMap(({ name, text }) => problems(text).map((what) => `${name}: ${what}`))).toEqual(
    [],
  );
});

describe("what is found", () => {
  test.each([
    ["alter table runs drop column output;", ["drops a column"]],
    ["DROP TABLE runs;", ["drops a table"]],
    ["alter table runs rename column a to b;", ["renames"]],
    ["alter table runs alter column a type text;", ["changes the type of a column"]],
    ["alter table runs alter a set not null;", ["demands a value that older versions do not write"]],
    ["alter table runs add column a text not null;", ["adds a column that older versions do not fill"]],
    ["alter table runs add column a text, add column b text not null default '';", []],
    ["alter table runs add column a bigint not null default 0; -- drop table", []],
    ["create table later (a text not null); drop index a; alter table runs drop constraint b;", []],
  ])("%s", (text, found) => expect(problems(text)).toEqual(found));
});
