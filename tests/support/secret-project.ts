/** A project whose tasks use secrets in every way they can be placed. */
import { createHash } from "node:crypto";
import { rm } from "node:fs/promises";
import { expect, onTestFinished } from "vitest";
import { helmr } from "./cli.ts";
import type { DevProcess } from "./dev-process.ts";
import { makeProject } from "./project.ts";

const tasks = `import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { image, sandbox, task } from "@helmr/sdk";
const box = sandbox("box").image(image("base").from("node:24-bookworm-slim"));
const hash = (text) => createHash("sha256").update(text).digest("hex");
const secrets = [
  { name: "PLANTED", env: "PLANTED" },
  { name: "PLANTED", file: "/run/planted/file" },
  { name: "PLANTED", dir: "/run/planted/dir" },
];
const values = async () => [
  process.env.PLANTED,
  await readFile("/run/planted/file", "utf8"),
  await readFile("/run/planted/dir/PLANTED", "utf8"),
];

export const usesSecrets = task({
  id: "uses-secrets",
  sandbox: box,
  secrets,
  retry: { maxAttempts: 2 },
  run: async (ctx: { payload?: unknown; run: { attemptNumber: number } }) => {
    const found = await values();
    console.log("hashes", found.map(hash).join(" "));
    console.error("nothing secret on stderr");
    if (ctx.run.attemptNumber === 1) {
      throw new Error("could not sign in with " + found[0], { cause: new Error("refused: " + found[1]) });
    }
    return found.map(hash);
  },
});

export const holdsSecrets = task({
  id: "holds-secrets",
  sandbox: box,
  secrets,
  run: async () => {
    console.log("begun");
    await sleep(8_000);
    return (await values()).map(hash);
  },
});
`;

export const envOf = (stack: DevProcess) => ({ HELMR_API_URL: stack.url, HELMR_API_KEY: stack.api_key });

/** What the tasks answer when they were given this value. */
export function hashesOf(value: string): string[] {
  const hash = createHash("sha256").update(value).digest("hex");
  return [hash, hash, hash];
}

/** Set the secret as a user does, on stdin, and deploy. */
export async function deploySecretProject(stack: DevProcess, value: string): Promise<void> {
  await setPlanted(stack, value);
  const dir = await makeProject({ "tasks/hello.ts": tasks });
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const deployed = await helmr(["deploy", dir], { env: envOf(stack), timeoutMs: 300_000 });
  expect(deployed.exitCode, `${deployed.stdout}\n${deployed.stderr}`).toBe(0);
}

export async function setPlanted(stack: DevProcess, value: string): Promise<void> {
  const set = await helmr(["secret", "set", "PLANTED"], { env: envOf(stack), input: value });
  expect(set.exitCode, set.stderr).toBe(0);
}
