import { describe, expect, it } from "vitest";
import { checkPackageJson } from "./package-json.ts";

describe("checkPackageJson", () => {
  it.each([
    ["npm@11.6.0", { ok: true, packageManager: "npm", version: "11.6.0" }],
    ["bun@1.3.0+sha512.abc", { ok: true, packageManager: "bun", version: "1.3.0+sha512.abc" }],
  ])("accepts %s", (packageManager, expected) => {
    expect(checkPackageJson(JSON.stringify({ dependencies: { "@helmr/sdk": "*" }, packageManager }))).toEqual(
      expected,
    );
  });

  it.each([
    ["{", /not valid JSON/],
    ["[]", /not an object/],
    ['{"packageManager":"npm@11.0.0"}', /@helmr\/sdk/],
    ['{"dependencies":{"@helmr/sdk":"*"}}', /packageManager/],
    ['{"dependencies":{"@helmr/sdk":"*"},"packageManager":"yarn@4.0.0"}', /npm or bun/],
  ])("refuses %s", (text, problem) => {
    expect(checkPackageJson(text)).toEqual({ ok: false, problems: [expect.stringMatching(problem)] });
  });
});
