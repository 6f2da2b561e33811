/**
 * A value that is set as a secret and used by a run in every way is afterwards nowhere but in the encrypted row: not in
 * any byte of the data folder, of the stack's log, or of what the API tells.
 */
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HelmrClient } from "@helmr/sdk";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type DevProcess, startDevProcess } from "./support/dev-process.ts";
import { findInFolder, formsInText } from "./support/find-bytes.ts";
import { deploySecretProject, hashesOf } from "./support/secret-project.ts";

let dataDir: string;
let stack: DevProcess | undefined;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), "helmr-leaks-"));
});
afterEach(async () => {
  await stack?.end("SIGTERM");
  stack = undefined;
  await rm(dataDir, { recursive: true, force: true });
}, 90_000);

it("finds a planted text in each of its forms", () => {
  const text = 'a text "with" a\nline';
  const utf16 = Buffer.from(text, "utf16le").toString("latin1");
  const base64 = (before: string) => Buffer.from(`${before}${text} after`).toString("base64");
  expect(formsInText(`x${text}x`, text)).toContain("as it is");
  expect(formsInText(JSON.stringify({ text }), text)).toContain("JSON-escaped");
  expect(formsInText(Buffer.from(text).toString("hex"), text)).toContain("hex");
  expect(formsInText(utf16, text)).toContain("UTF-16LE");
  for (const before of ["", "x", "xx", "xxxx"]) {
    expect(formsInText(base64(before), text)).toContain(`base64 at ${before.length % 3}`);
  }
});

it("a secret's value is in no file, log or answer after a run that used and told of it", async () => {
  // A part that no encoding of text changes, and quotes and a line end that some do.
  const planted = randomBytes(16).toString("hex");
  const value = `${planted}"\\\nsecond line of ${planted}`;
  stack = await startDevProcess(dataDir, ["--log-level", "debug"]);
  await deploySecretProject(stack, value);
  // What the stack starts, PostgreSQL first, inherits it.
  const postgresPid = (await readFile(join(dataDir, "postgres/postmaster.pid"), "utf8")).split("\n")[0];
  for (const pid of [stack.pid, postgresPid]) {
    expect(await readFile(`/proc/${pid}/limits`, "utf8")).toMatch(/Max core file size +0 +0 /);
  }

  const client = new HelmrClient({ url: stack.url, apiKey: stack.api_key });
  const marker = `marker-${randomBytes(16).toString("hex")}`;
  const started = await client.sessions.start("uses-secrets", {}, { metadata: { marker } });
  const run = await client.runs.wait(started.run.id, { timeoutMs: 180_000 });
  expect(run).toMatchObject({ status: "succeeded", attemptNumber: 2, output: hashesOf(value) });

  const answers = await Promise.all([
    ...["", "/events", "/logs"].map((what) => read(`/runs/${run.id}${what}`)),
    ...["/sessions", "/runs", "/secrets", "/secrets/PLANTED", "/deployments", "/tasks"].map((path) =>
      read(path),
    ),
    readAuditLog(stack),
  ]);
  const told = answers.join("\n");
  expect(told).toContain("could not sign in with [secret PLANTED]");
  expect(told).toContain(marker);
  expect(told).toContain("secret.set");
  expect(formsInText(told, planted)).toEqual([]);

  const log = () => stack?.log() ?? "";
  expect(await stack.end("SIGTERM")).toBe(0);
  expect(log()).toContain("helmr"); // there is a log to look into
  expect(formsInText(log(), planted)).toEqual([]);
  // The same search does find what the run was told in the open.
  expect((await findInFolder(dataDir, marker)).map(({ file }) => file).join()).toContain("postgres");
  expect(await findInFolder(dataDir, planted)).toEqual([]);
}, 600_000);

async function read(path: string): Promise<string> {
  if (stack === undefined) throw new Error("the stack does not run");
  const response = await fetch(`${stack.url}/api${path}`, {
    headers: { authorization: `Bearer ${stack.api_key}` },
  });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${path}: ${response.status} ${text}`);
  const { stdout_base64 = "", stderr_base64 = "" } = JSON.parse(text) as Record<string, string>;
  return `${text}\n${Buffer.from(stdout_base64, "base64")}\n${Buffer.from(stderr_base64, "base64")}`;
}

async function readAuditLog({ url }: DevProcess): Promise<string> {
  const headers = { origin: url, "sec-fetch-site": "same-origin" };
  const signedIn = await fetch(`${url}/api/auth/local/sign-in`, { method: "POST", headers, body: "{}" });
  const cookie = signedIn.headers.get("set-cookie")?.split(";")[0] ?? "";
  const response = await fetch(`${url}/api/audit-log`, { headers: { cookie } });
  if (response.status !== 200) throw new Error(`the audit log answered ${response.status}`);
  return await response.text();
}
