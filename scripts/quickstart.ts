/**
 * `npm run quickstart`: the main job in one command.
 *
 * Starts the embedded stack, deploys examples/hello, starts a session, shows its logs and result, stops everything.
 * Each step is the command a user would type, run as a child process and printed before it runs.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";

const root = join(import.meta.dirname, "..");
const helmr = join(root, "packages/cli/bin/helmr.mjs");

/** The first start installs runsc (75 s when it must be compiled) and the base image (20 s). */
const startTimeoutMs = 15 * 60_000;

interface Ready {
  readonly url: string;
  readonly api_key: string;
}

async function startStack(): Promise<{ child: ChildProcess; ready: Ready }> {
  say("helmr dev", "starting the embedded stack (the first time installs what is missing)");
  const child = spawn(process.execPath, [helmr, "dev", "--json"], { stdio: ["ignore", "pipe", "inherit"] });
  const timer = setTimeout(() => child.kill("SIGTERM"), startTimeoutMs);
  try {
    for await (const line of createInterface({ input: child.stdout })) {
      return { child, ready: JSON.parse(line) as Ready };
    }
  } finally {
    clearTimeout(timer);
  }
  throw new Error("the embedded stack did not start: the reason is above");
}

async function command(ready: Ready, ...args: string[]): Promise<void> {
  say(`helmr ${args.map((arg) => (/[{ ]/.test(arg) ? `'${arg}'` : arg)).join(" ")}`);
  const child = spawn(process.execPath, [helmr, ...args], {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, HELMR_API_URL: ready.url, HELMR_API_KEY: ready.api_key },
  });
  const [code] = (await once(child, "exit")) as [number | null];
  if (code !== 0) throw new Error(`helmr ${args[0]} ended with exit code ${code}: the reason is above`);
}

async function stopStack(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await exited;
}

function say(commandLine: string, remark?: string): void {
  console.log(`\n$ ${commandLine}${remark ? `   # ${remark}` : ""}`);
}

let stack: Awaited<ReturnType<typeof startStack>> | undefined;
try {
  stack = await startStack();
  await command(stack.ready, "deploy", "examples/hello");
  await command(stack.ready, "session", "start", "hello", "--payload", '{"name":"world"}', "--follow");
} catch (error) {
  console.error(`\nquickstart failed: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
} finally {
  if (stack) await stopStack(stack.child);
}
if (process.exitCode !== 1) {
  console.log(`
That was a TypeScript task in an isolated Linux guest. Everything is stopped again. Next:

  npm run dev                                   keep a stack running (prints its URL and API key)
  npm run helmr -- init my-project              a task project of your own
  npm run helmr -- deploy my-project
  npm run helmr -- session start hello --follow
  npm test                                      prove it all
`);
}
