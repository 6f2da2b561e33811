import { expect, it } from "vitest";
import { forgetRegistry, prepareText } from "./lockfiles.ts";

const npmLock = (entry: object) =>
  JSON.stringify({
    lockfileVersion: 3,
    packages: {
      "": { dependencies: { "@helmr/sdk": "^0.1.0" } },
      "node_modules/@helmr/sdk": entry,
      "node_modules/zod": { version: "4.0.0", integrity: "sha512-z" },
    },
  });

it("lets npm take the SDK from the registry at hand, and touches no other entry", () => {
  const { text, specs } = prepareText(
    "package-lock.json",
    npmLock({ version: "0.1.4", resolved: "https://r/x.tgz", integrity: "sha512-a" }),
    "0.1.0",
  );
  expect(specs).toEqual(["^0.1.0", "0.1.4"]);
  expect(JSON.parse(text).packages).toMatchObject({
    "node_modules/@helmr/sdk": { version: "0.1.4" },
    "node_modules/zod": { integrity: "sha512-z" },
  });
  expect(text).not.toContain("sha512-a");
});

it("reads a manifest that begins with a byte order mark", () => {
  const { specs } = prepareText(
    "package.json",
    `\uFEFF${JSON.stringify({ dependencies: { "@helmr/sdk": "^0.3.0" } })}`,
    "0.1.0",
  );
  expect(specs).toEqual(["^0.3.0"]);
});

it("turns a linked SDK into a package of our version", () => {
  const { text } = prepareText(
    "package-lock.json",
    npmLock({ resolved: "../packages/sdk", link: true }),
    "0.1.0",
  );
  expect(JSON.parse(text).packages["node_modules/@helmr/sdk"]).toEqual({ version: "0.1.0" });
});

it("does the same for bun's lockfile, also where it is nested", () => {
  const line = (id: string) =>
    `    ${id}: ["@helmr/sdk@0.2.0", "http://10.0.0.1:80/t/@helmr/sdk/-/sdk-0.2.0.tgz", { "peerDependencies": {} }, "sha512-a"],`;
  const { text, specs } = prepareText(
    "bun.lock",
    [line('"@helmr/sdk"'), line('"other/@helmr/sdk"'), '        "@helmr/sdk": "workspace:*",'].join("\n"),
    "0.1.0",
  );
  expect(specs).toEqual(["0.2.0", "0.2.0", "0.1.0"]);
  expect(text).not.toMatch(/http|sha512|workspace/);
});

it("leaves what does not parse to the package manager", () => {
  expect(prepareText("package.json", "{ not json", "0.1.0").text).toBe("{ not json");
});

it("forgets the build's registry", () => {
  const url = "http://198.18.0.1:4000/token/";
  const lock = npmLock({
    version: "0.1.0",
    resolved: `${url}@helmr/sdk/-/sdk-0.1.0.tgz`,
    integrity: "sha512-a",
  });
  expect(forgetRegistry("package-lock.json", lock, url)).not.toContain("198.18");
  expect(
    forgetRegistry("bun.lock", `    "@helmr/sdk": ["@helmr/sdk@0.1.0", "${url}x.tgz", {}, "sha512-a"],`, url),
  ).not.toContain("198.18");
});
