import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { normalizeUrl, resolveEndpoint } from "./context.ts";
import { credentialsPath, readCredentials, saveHost } from "./credentials.ts";

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

it("takes option before environment before saved, and the environment's key before the saved one", async () => {
  await saveHost("http://127.0.0.1:1", { api_key: "saved" });
  expect(await resolveEndpoint({}, {})).toEqual({ url: "http://127.0.0.1:1", apiKey: "saved" });
  expect(await resolveEndpoint({}, { HELMR_API_KEY: "env" })).toEqual({
    url: "http://127.0.0.1:1",
    apiKey: "env",
  });
  const env = { HELMR_API_URL: "http://localhost:2/x/", HELMR_API_KEY: "env" };
  expect((await resolveEndpoint({}, env)).url).toBe("http://localhost:2/x");
  expect((await resolveEndpoint({ apiUrl: "https://h.example" }, env)).url).toBe("https://h.example");
  await expect(resolveEndpoint({ apiUrl: "https://other.example" }, {})).rejects.toMatchObject({
    exitCode: 4,
  });
});

it("says what to do when nothing is known or the file is damaged", async () => {
  await expect(resolveEndpoint({}, {})).rejects.toMatchObject({ exitCode: 2, message: /no server/ });
  await saveHost("http://127.0.0.1:1", { api_key: "x" });
  await writeFile(credentialsPath(), "{");
  await expect(readCredentials()).rejects.toThrow(/damaged/);
});

it.each([
  "http://example.com",
  "ftp://localhost",
  "https://a.example?x=1",
  "https://user:pw@a.example",
  "no url",
])("refuses %s", (url) => expect(() => normalizeUrl(url)).toThrow());
it.each([
  ["https://a.example//", "https://a.example"],
  ["http://[::1]:80/", "http://[::1]"],
  ["http://127.8.8.8:9/p/", "http://127.8.8.8:9/p"],
])("takes %s as %s", (given, url) => expect(normalizeUrl(given)).toBe(url));
