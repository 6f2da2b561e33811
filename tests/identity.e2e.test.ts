/**
 * A person at the command line, from sign-in to sign-out, against the whole stack: the real command with a configuration
 * folder of its own, the device flow approved over HTTP by the local owner.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { type CliOptions, helmr, helmrJson, repositoryRoot } from "./support/cli.ts";

const url = inject("stackUrl");
const slug = `people-${crypto.randomUUID().slice(0, 8)}`;
let config: string;
let ownerToken: string;

beforeAll(async () => {
  config = await mkdtemp(join(tmpdir(), "helmr-identity-"));
  const file = join(inject("stackDataDir"), "config", "helmr", "credentials.json");
  const { hosts } = JSON.parse(await readFile(file, "utf8"));
  ownerToken = hosts[url].session_token;
});
afterAll(() => rm(config, { recursive: true, force: true }));

const here = (env: Record<string, string> = {}): CliOptions => ({
  env: { XDG_CONFIG_HOME: config, HELMR_API_URL: "", HELMR_API_KEY: "", ...env },
  timeoutMs: 300_000,
});
const run = (...args: string[]) => helmr(args, here());
const json = <T>(...args: string[]) => helmrJson<T>(args, here());
const saved = async () => JSON.parse(await readFile(join(config, "helmr", "credentials.json"), "utf8"));
/** `--project` and `--env` of the project made here. */
const inStaging = ["--project", slug, "--env", "staging"];

const decide = async (verb: "approve" | "deny", userCode: string) => {
  const response = await fetch(`${url}/api/auth/device/${verb}`, {
    method: "POST",
    headers: { authorization: `Bearer ${ownerToken}` },
    body: JSON.stringify({ user_code: userCode }),
  });
  expect(response.status).toBe(200);
};

/** `helmr login --json`; `act` gets the user code as soon as it is shown. */
async function login(act: (userCode: string) => Promise<void>) {
  const shim = join(repositoryRoot, "packages/cli/bin/helmr.mjs");
  const child = spawn(process.execPath, [shim, "login", "--api-url", url, "--json"], {
    env: { ...process.env, ...here().env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exited = once(child, "exit");
  let err = "";
  child.stderr.on("data", (data: Buffer) => {
    err += data.toString();
  });
  const lines: unknown[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const value = JSON.parse(line);
    if (lines.push(value) === 1) await act(value.user_code);
  }
  const [exitCode] = (await exited) as [number | null];
  return { exitCode, lines, err };
}

describe("a person at the command line", () => {
  it("is told to sign in, and which server is meant", async () => {
    expect(await run("whoami")).toMatchObject({
      exitCode: 2,
      stderr: expect.stringMatching(/no server is known/),
    });
    expect(await run("project", "list", "--api-url", url)).toMatchObject({
      exitCode: 4,
      stderr: expect.stringMatching(/helmr login/),
    });
  });

  it("does not get in when the code is denied", async () => {
    const { exitCode, err } = await login((code) => decide("deny", code));
    expect([exitCode, err]).toEqual([4, expect.stringMatching(/denied/)]);
    await expect(saved()).rejects.toThrow();
  });

  it("signs in by device code; the file is the user's alone", async () => {
    const { exitCode, lines, err } = await login((code) => decide("approve", code));
    expect(exitCode, err).toBe(0);
    expect(lines.at(-1)).toMatchObject({ api_url: url, role: "owner", organization_required: false });
    expect((await stat(join(config, "helmr", "credentials.json"))).mode & 0o777).toBe(0o600);
    const { hosts } = await saved();
    expect(Object.keys(hosts[url])).toEqual(["session_token"]);
    expect(`${JSON.stringify(lines)}${err}`).not.toContain(hosts[url].session_token);
    expect(await json("whoami")).toMatchObject({ display_name: "Local owner", org_slug: "default" });
  });

  it("makes a project and an environment, changes and lists them", async () => {
    const project = await json<{ id: string; environments: { slug: string }[] }>("project", "create", slug);
    expect(project.environments.map((one) => one.slug).sort()).toEqual(["production", "staging"]);
    expect(await json("project", "get", slug)).toMatchObject({ id: project.id });
    expect(await json("project", "update", slug, "--name", "People")).toMatchObject({ slug, name: "People" });
    expect((await run("project", "list")).stdout).toMatch(new RegExp(`^${slug}\\tPeople\\t`, "m"));
    await json("env", "create", "preview", "--project", slug, "--color", "#2563eb");
    expect(await json("env", "get", "preview", "--project", slug)).toMatchObject({ color_hex: "#2563EB" });
    expect(
      await json("env", "update", "preview", "--project", slug, "--name", "Pull requests"),
    ).toMatchObject({
      name: "Pull requests",
    });
    const { environments } = await json<{ environments: { slug: string }[] }>(
      "env",
      "list",
      "--project",
      slug,
    );
    expect(environments.map((one) => one.slug).sort()).toEqual(["preview", "production", "staging"]);
  });

  it("is refused what cannot be, with what to do", async () => {
    expect((await run("project", "create", slug)).exitCode).toBe(8);
    expect((await run("project", "get", "nowhere")).exitCode).toBe(3);
    expect((await run("env", "get", "nowhere", "--project", slug)).exitCode).toBe(3);
    expect((await run("env", "list")).exitCode).toBe(2);
    expect((await run("env", "delete", "staging", "--project", slug, "--yes")).exitCode).toBe(8);
    const unasked = await run("env", "delete", "preview", "--project", slug);
    expect([unasked.exitCode, unasked.stderr]).toEqual([2, expect.stringMatching(/--yes/)]);
    expect((await run("run", "list")).exitCode).toBe(2);
    const withKey = await helmr(
      ["run", "list", ...inStaging],
      here({ HELMR_API_KEY: inject("stackApiKey") }),
    );
    expect([withKey.exitCode, withKey.stderr]).toEqual([2, expect.stringMatching(/unset HELMR_API_KEY/)]);
    const person = await helmr(["project", "list"], here({ HELMR_API_KEY: inject("stackApiKey") }));
    expect([person.exitCode, person.stderr]).toEqual([4, expect.stringMatching(/unset HELMR_API_KEY/)]);
  });

  it("deletes an environment, after it was shown what goes with it", async () => {
    const result = await run("env", "delete", "preview", "--project", slug, "--yes");
    expect([result.exitCode, result.stderr]).toEqual([
      0,
      expect.stringMatching(/nothing in it[\s\S]*is deleted/),
    ]);
    expect((await run("env", "get", "preview", "--project", slug)).exitCode).toBe(3);
  });

  it("deploys and runs with the login, in the environment that is named", async () => {
    const fixture = join(repositoryRoot, "tests/fixtures/behaviours");
    const deployed = await run("deploy", fixture, ...inStaging);
    expect(deployed.exitCode, deployed.stderr).toBe(0);
    const started = await json<{ run: { status: string; output: unknown } }>(
      "session",
      "start",
      "returns-value",
      "--wait",
      ...inStaging,
    );
    expect(started.run.status).toBe("succeeded");
    expect((await run("run", "list", "--status", "all", ...inStaging)).stdout.split("\n")).toHaveLength(1);
    const elsewhere = ["--project", slug, "--env", "production"];
    expect((await run("run", "list", "--status", "all", ...elsewhere)).stdout).toBe("");
  }, 400_000);

  it("makes an API key that a program runs with, until it is revoked", async () => {
    expect((await run("api-key", "create", "none", ...inStaging)).exitCode).toBe(2);
    const scopes = ["--scope", "runs:create", "--scope", "runs:read"];
    const created = await run(
      "api-key",
      "create",
      "program",
      ...scopes,
      "--expires-in-days",
      "30",
      "--quiet",
      ...inStaging,
    );
    expect([created.exitCode, created.stderr]).toEqual([0, ""]);
    expect(created.stdout).toMatch(/^hlmr_sk_[A-Za-z0-9_-]{43}$/);
    const program = here({ HELMR_API_URL: url, HELMR_API_KEY: created.stdout });
    const started = await helmrJson<{ run: { status: string } }>(
      ["session", "start", "returns-value", "--wait"],
      program,
    );
    expect(started.run.status).toBe("succeeded");
    expect((await helmr(["secret", "list"], program)).exitCode).toBe(4);
    const listed = await run("api-key", "list", ...inStaging);
    expect(listed.stdout).toMatch(new RegExp(`^program\\t${created.stdout.slice(0, 16)}…\\tactive\\t`, "m"));
    expect(listed.stdout).not.toContain(created.stdout);

    expect((await run("api-key", "revoke", "program", ...inStaging)).exitCode).toBe(0);
    expect((await run("api-key", "list", ...inStaging)).stdout).toBe("");
    const { items } = await json<{ items: { status: string }[] }>(
      "api-key",
      "list",
      "--filter",
      "revoked",
      ...inStaging,
    );
    expect(items.map((key) => key.status)).toEqual(["revoked"]);
    // What the server remembers of a key is a second old at most.
    await expect
      .poll(async () => (await helmr(["run", "list"], program)).exitCode, { timeout: 20_000, interval: 500 })
      .toBe(4);
  });

  it("sees members, invites, revokes, and reads who did what", async () => {
    const { members } = await json<{ members: { display_name: string; role: string }[] }>("member", "list");
    expect(members).toContainEqual(expect.objectContaining({ display_name: "Local owner", role: "owner" }));
    const email = `${slug}@example.com`;
    const invited = await run("member", "invite", email, "--role", "viewer");
    expect(invited.exitCode, invited.stderr).toBe(0);
    expect(invited.stdout).toMatch(/^https?:\/\//);
    expect((await run("invitation", "list")).stdout).toMatch(
      new RegExp(`^${email}\\tviewer\\tpending\\t`, "m"),
    );
    expect((await run("invitation", "revoke", email)).exitCode).toBe(0);
    expect((await run("invitation", "list")).stdout).toMatch(
      new RegExp(`^${email}\\tviewer\\trevoked\\t`, "m"),
    );
    expect((await run("invitation", "revoke", email)).exitCode).toBe(3);
    expect((await run("member", "remove", "nobody@example.com", "--yes")).exitCode).toBe(3);
    const { records } = await json<{ records: { action: string; actor: { label: string } }[] }>(
      "audit",
      "list",
      "--action",
      "invitation.create",
    );
    expect(records[0]).toMatchObject({ action: "invitation.create", actor: { label: "Local owner" } });
    const organizations = await json<{ organizations: { slug: string; selected: boolean }[] }>("org", "list");
    expect(organizations.organizations).toMatchObject([{ slug: "default", selected: true }]);
    expect((await run("org", "select", "default")).exitCode).toBe(0);
    expect((await run("org", "create", "second")).exitCode).not.toBe(0);
  });

  it("keeps several hosts apart", async () => {
    const other = url.replace("127.0.0.1", "localhost");
    await run("host", "use", url, "--project", slug, "--env", "staging");
    expect((await run("run", "list", "--status", "all")).exitCode).toBe(0);
    expect((await run("whoami", "--api-url", other)).exitCode).toBe(4);
    const { hosts } = await json<{ hosts: unknown[] }>("host", "list");
    expect(hosts).toEqual([
      { url, is_default: true, has_login: true, has_api_key: false, project: slug, environment: "staging" },
    ]);
  });

  it("deletes a project with live work only by force", async () => {
    const live = await json<{ run: { id: string } }>("session", "start", "waits-for-cancel", ...inStaging);
    const refused = await run("project", "delete", slug, "--yes");
    expect([refused.exitCode, refused.stderr]).toEqual([8, expect.stringMatching(/live[\s\S]*--force/)]);
    expect((await run("run", "get", live.run.id, ...inStaging)).exitCode).toBe(0);
    const forced = await run("project", "delete", slug, "--yes", "--force");
    expect(forced.exitCode, forced.stderr).toBe(0);
    expect((await run("project", "get", slug)).exitCode).toBe(3);
    await expect
      .poll(async () => (await run("run", "list", ...inStaging)).exitCode, { timeout: 20_000, interval: 500 })
      .toBe(3);
  });

  it("signs out: the session is over at the server, and forgotten here", async () => {
    const token = (await saved()).hosts[url].session_token;
    expect(await json("logout")).toEqual({ hosts: [{ url, revoked: true }] });
    expect(await saved()).toEqual({ version: 1, hosts: {} });
    await expect
      .poll(
        async () => (await fetch(`${url}/api/me`, { headers: { authorization: `Bearer ${token}` } })).status,
        { timeout: 20_000, interval: 200 },
      )
      .toBe(401);
    expect((await run("whoami", "--api-url", url)).exitCode).toBe(4);
  });
});
