/**
 * The conversation so far. A parked run keeps it in memory; a file in the workspace keeps it for the session's next run.
 */
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Message } from "./model.ts";
import { limits } from "./settings.ts";

/** The agent's own, in the workspace. */
export const agentFolder = ".agent";

export class Memory {
  readonly #file: string;
  readonly #turns: Message[][];

  private constructor(file: string, turns: Message[][]) {
    this.#file = file;
    this.#turns = turns;
  }

  /** Of this workspace; empty when there is none yet. */
  static async open(workspace: string): Promise<Memory> {
    const file = join(workspace, agentFolder, "conversation.json");
    const text = await readFile(file, "utf8").catch(() => "[]");
    return new Memory(file, JSON.parse(text) as Message[][]);
  }

  get messages(): readonly Message[] {
    return this.#turns.flat();
  }

  /** Whole turns only: a tool's result without its call is refused by every provider. */
  async add(turn: Message[]): Promise<void> {
    this.#turns.push(turn);
    this.#turns.splice(0, this.#turns.length - limits.rememberedTurns);
    await mkdir(dirname(this.#file), { recursive: true });
    await writeFile(`${this.#file}.new`, JSON.stringify(this.#turns));
    await rename(`${this.#file}.new`, this.#file);
  }
}
