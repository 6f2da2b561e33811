/** A guest that evaluates lines of JavaScript, and saving and restoring it. */
import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import path from "node:path";
import type { CheckpointRecord, Guest, GuestSpec, Isolation } from "../src/index.ts";
import { type Bench, guestSpec, node, waitForOutput } from "./bench-guest.ts";

/** On tmpfs, as the worker's staging folder is. */
const stagingParent = "/dev/shm";

const evaluator = `
  const answer = (value) => console.log(JSON.stringify(value ?? null));
  require("readline").createInterface({ input: process.stdin }).on("line", async (line) => {
    try { answer(await eval(line)); } catch (error) { answer({ error: String(error) }); }
  });
  console.log('"up"');`;

export interface Saved {
  readonly spec: GuestSpec;
  readonly directory: string;
  readonly record: CheckpointRecord;
}

/** Folders of one test file; `remove` in afterAll. */
export class Staging {
  readonly #made: string[] = [];

  async folder(): Promise<string> {
    const made = await mkdtemp(path.join(stagingParent, "helmr-checkpoint-"));
    this.#made.push(made);
    return made;
  }

  async copyOf(directory: string): Promise<string> {
    const made = await this.folder();
    await cp(directory, made, { recursive: true });
    return made;
  }

  async remove(): Promise<void> {
    for (const made of this.#made) await rm(made, { recursive: true, force: true });
  }
}

export function evaluatorSpec(bench: Bench, changes: Partial<GuestSpec> = {}): GuestSpec {
  return guestSpec(bench, node(evaluator), changes);
}

export async function startEvaluator(isolation: Isolation, spec: GuestSpec): Promise<Guest> {
  const guest = await isolation.start(spec);
  await waitForOutput(guest, /"up"\n/);
  return guest;
}

/** The value of an expression in the guest; a promise is awaited there. */
export async function ask(guest: Guest, expression: string): Promise<unknown> {
  guest.stream.write(`${expression.replaceAll("\n", " ")}\n`);
  return JSON.parse(await waitForOutput(guest, /\n$/));
}

/** Start, run the expressions, save, destroy. */
export async function save(
  bench: Bench,
  staging: Staging,
  expressions: readonly string[],
  changes: Partial<GuestSpec> = {},
): Promise<Saved & { readonly answers: unknown[] }> {
  const spec = evaluatorSpec(bench, changes);
  const guest = await startEvaluator(bench.isolation, spec);
  const answers: unknown[] = [];
  for (const expression of expressions) answers.push(await ask(guest, expression));
  const directory = await staging.folder();
  const record = await guest.checkpoint({ directory });
  await guest.destroy();
  return { spec, directory, record, answers };
}

let restored = 0;

export async function restore(bench: Bench, saved: Saved, changes: Partial<GuestSpec> = {}): Promise<Guest> {
  restored += 1;
  const spec = { ...saved.spec, id: `t-restored-${restored}`, ...changes };
  return bench.isolation.restore(spec, { directory: saved.directory, record: saved.record });
}

export async function newFolder(bench: Bench, name: string): Promise<string> {
  const created = path.join(bench.scratch, name);
  await mkdir(created, { recursive: true });
  return created;
}
