/** Which server, which credential, which routes: every row of the table in context.ts. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import {
  normalizeUrl,
  resolveEnvironment,
  resolveHost,
  resolveLogin,
  resolveMember,
  resolveProject,
} from "./context.ts";
import { type HostCredential, saveHost } from "./credentials.ts";

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-context-"));
  vi.stubEnv("XDG_CONFIG_HOME", dir);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true });
});

const url = "https://helmr.example.com";
const saved = (host: HostCredential) => saveHost(url, host);
const key = { HELMR_API_KEY: "env-key" };

describe("the server", () => {
  it("is the option's before the environment's before the saved one", async () => {
    await expect(resolveHost({}, {})).rejects.toMatchObject({ exitCode: 2, message: /no server/ });
    await saved({ api_key: "saved" });
    expect((await resolveHost({}, {})).url).toBe(url);
    const env = { HELMR_API_URL: "http://localhost:2/x/" };
    expect(await resolveHost({}, env)).toEqual({ url: "http://localhost:2/x", saved: undefined });
    expect((await resolveHost({ apiUrl: "https://h.example" }, env)).url).toBe("https://h.example");
  });

  it.each([
    "http://example.com",
    "ftp://localhost",
    "https://a.example?x=1",
    "https://user:pw@a.example",
    "no url",
  ])("refuses %s", (text) => expect(() => normalizeUrl(text)).toThrow());
  it.each([
    ["https://a.example//", "https://a.example"],
    ["http://[::1]:80/", "http://[::1]"],
    ["http://127.8.8.8:9/p/", "http://127.8.8.8:9/p"],
  ])("takes %s as %s", (given, expected) => expect(normalizeUrl(given)).toBe(expected));
});

describe("a command about an environment", () => {
  it("takes HELMR_API_KEY before everything that is saved, and nothing may name another environment", async () => {
    await saved({ api_key: "key", session_token: "token", project: "p", environment: "e" });
    const env = { ...key, HELMR_PROJECT: "x", HELMR_ENVIRONMENT: "y" };
    expect(await resolveEnvironment({}, env)).toEqual({ url, token: "env-key", prefix: "" });
    for (const options of [{ project: "x" }, { env: "y" }]) {
      await expect(resolveEnvironment(options, key)).rejects.toMatchObject({
        exitCode: 2,
        message: /refused: HELMR_API_KEY/,
      });
    }
  });

  it("takes the saved key unless an environment is named, then the login", async () => {
    await saved({ api_key: "key", session_token: "token", project: "p", environment: "e" });
    expect(await resolveEnvironment({}, {})).toEqual({ url, token: "key", prefix: "" });
    const login = { url, token: "token" };
    expect(await resolveEnvironment({ env: "staging" }, {})).toEqual({
      ...login,
      prefix: "/projects/p/environments/staging",
    });
    expect(await resolveEnvironment({ project: "a/b" }, { HELMR_ENVIRONMENT: "v" })).toEqual({
      ...login,
      prefix: "/projects/a%2Fb/environments/v",
    });
    expect((await resolveEnvironment({}, { HELMR_ENVIRONMENT: "v" })).prefix).toBe(
      "/projects/p/environments/v",
    );
  });

  it("with a login needs both names: options, variables, the configuration's project, saved ones", async () => {
    await saved({ session_token: "token" });
    const project = async () => "from-config";
    await expect(resolveEnvironment({}, {})).rejects.toMatchObject({ exitCode: 2, hint: /HELMR_PROJECT/ });
    await expect(resolveEnvironment({ project: "p" }, {})).rejects.toMatchObject({
      exitCode: 2,
      hint: /--env/,
    });
    expect((await resolveEnvironment({ env: "e" }, {}, project)).prefix).toBe(
      "/projects/from-config/environments/e",
    );
    expect((await resolveEnvironment({ env: "e" }, { HELMR_PROJECT: "v" }, project)).prefix).toBe(
      "/projects/v/environments/e",
    );
    await saved({ session_token: "token", project: "saved", environment: "saved-too" });
    expect((await resolveEnvironment({}, {})).prefix).toBe("/projects/saved/environments/saved-too");
    expect((await resolveEnvironment({}, {}, project)).prefix).toBe(
      "/projects/from-config/environments/saved-too",
    );
  });

  it("refuses names beside a saved key alone, and says how to sign in without any credential", async () => {
    await saved({ api_key: "key" });
    await expect(resolveEnvironment({ env: "e" }, {})).rejects.toMatchObject({
      exitCode: 2,
      hint: /helmr login/,
    });
    await expect(resolveEnvironment({ apiUrl: "https://other.example" }, {})).rejects.toMatchObject({
      exitCode: 4,
      hint: /helmr login/,
    });
  });
});

describe("a command that only people may run", () => {
  it("takes the login, also beside a saved key; HELMR_API_KEY is refused", async () => {
    await saved({ api_key: "key", session_token: "token", project: "p", environment: "e" });
    expect(await resolveLogin({}, {})).toEqual({ url, token: "token", prefix: "" });
    expect(await resolveMember({}, {})).toEqual({
      url,
      token: "token",
      prefix: "/projects/p/environments/e",
    });
    expect((await resolveMember({ project: "x" }, { HELMR_ENVIRONMENT: "y" })).prefix).toBe(
      "/projects/x/environments/y",
    );
    expect(await resolveProject({}, {})).toBe("p");
    for (const resolve of [resolveLogin, resolveMember]) {
      await expect(resolve({}, key)).rejects.toMatchObject({ exitCode: 4, hint: /unset HELMR_API_KEY/ });
    }
  });

  it("says how to sign in, and which name is missing", async () => {
    await saved({ api_key: "key" });
    await expect(resolveLogin({}, {})).rejects.toMatchObject({ exitCode: 4, hint: /helmr login/ });
    await saved({ session_token: "token" });
    await expect(resolveMember({ project: "p" }, {})).rejects.toMatchObject({ exitCode: 2, hint: /--env/ });
    await expect(resolveProject({}, {})).rejects.toMatchObject({ exitCode: 2, hint: /--project/ });
  });
});
