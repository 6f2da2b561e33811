import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { credentialsPath, forgetCredentials, readCredentials, saveHost } from "./credentials.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-credentials-"));
  vi.stubEnv("XDG_CONFIG_HOME", dir);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true });
});

it("keeps several servers, the last saved one as default, readable by the user only", async () => {
  await saveHost("http://127.0.0.1:1", { api_key: "one", project: "p", environment: "e" });
  await saveHost("https://helmr.example.com", { api_key: "two" });
  const saved = await readCredentials();
  expect(saved.default_url).toBe("https://helmr.example.com");
  expect(saved.hosts["http://127.0.0.1:1"]).toEqual({ api_key: "one", project: "p", environment: "e" });
  expect((await stat(credentialsPath())).mode & 0o777).toBe(0o600);
  expect(await readdir(join(dir, "helmr"))).toEqual(["credentials.json"]);
});

it("keeps a login beside a key, and forgets one without the other", async () => {
  await saveHost("https://a.example", { api_key: "key", session_token: "token", project: "p" });
  await saveHost("https://b.example", { session_token: "token" });
  await forgetCredentials("https://a.example", ["session_token"]);
  expect((await readCredentials()).hosts["https://a.example"]).toEqual({ api_key: "key", project: "p" });
  await forgetCredentials("https://b.example", ["session_token"]);
  expect(await readCredentials()).toEqual({
    version: 1,
    default_url: "https://a.example",
    hosts: { "https://a.example": { api_key: "key", project: "p" } },
  });
  await forgetCredentials("https://a.example", ["api_key", "session_token"]);
  await forgetCredentials("https://unknown.example", ["session_token"]);
  expect(await readCredentials()).toEqual({ version: 1, hosts: {} });
});

it("makes no choice among several servers when the default one is forgotten", async () => {
  for (const name of ["a", "b", "c"]) await saveHost(`https://${name}.example`, { session_token: name });
  await forgetCredentials("https://c.example", ["session_token"]);
  expect(await readCredentials()).not.toHaveProperty("default_url");
});

it.each(["{", "[]", '{"version":2,"hosts":{}}', '{"version":1,"hosts":{"x":{"api_key":1}}}'])(
  "says what to do when the file holds %s",
  async (text) => {
    await saveHost("http://127.0.0.1:1", { api_key: "x" });
    await writeFile(credentialsPath(), text);
    await expect(readCredentials()).rejects.toThrow(/damaged/);
  },
);
