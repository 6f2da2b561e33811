import { expect, test } from "vitest";
import { canonicalName, folderName } from "./names.ts";

test.each([
  ["node", "docker.io/library/node:latest"],
  ["node:24-bookworm-slim", "docker.io/library/node:24-bookworm-slim"],
  ["acme/tool:1", "docker.io/acme/tool:1"],
  ["docker.io/library/node:24", "docker.io/library/node:24"],
  ["ghcr.io/acme/tool", "ghcr.io/acme/tool:latest"],
  ["localhost:5000/tool", "localhost:5000/tool:latest"],
  ["localhost/tool:2", "localhost/tool:2"],
  ["node:24@sha256:aa", "docker.io/library/node@sha256:aa"],
  ["127.0.0.1:5000/a/b@sha256:aa", "127.0.0.1:5000/a/b@sha256:aa"],
])("%s stands for %s", (reference, name) => {
  expect(canonicalName(reference)).toBe(name);
  expect(canonicalName(name)).toBe(name);
  expect(folderName(reference)).toBe(folderName(name));
});

test.each(["", "-v", "--authfile=/etc/shadow", "a b", "../etc", "a".repeat(600)])(
  "refuses %j",
  (reference) => {
    expect(() => canonicalName(reference)).toThrow("not an image reference");
  },
);

test("folder names hold no character that mount options or paths give a meaning", () => {
  for (const name of ["a.b:5000/x/y:tag", "node@sha256:aa", "n/../../m"]) {
    expect(folderName(name)).toMatch(/^[A-Za-z0-9._-]+$/);
  }
});
