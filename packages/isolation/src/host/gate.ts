/** Holds a program of the host at one point until this process answers: a FIFO that the program reads a line from. */
import { type FileHandle, open } from "node:fs/promises";
import { hostCommand } from "./command.ts";

export class Gate {
  readonly #handle: FileHandle;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  static async make(path: string): Promise<Gate> {
    await hostCommand("mkfifo", ["--mode=600", path], { layer: "host" });
    // For both ends: that waits for nobody, and what is written before the program comes stays until then. When this process
    // dies, a program that reads gets the end of the file.
    return new Gate(await open(path, "r+"));
  }

  /** The first answer counts; "no", and no line at all, are failures of the program. */
  async answer(answer: "go" | "no"): Promise<void> {
    await this.#handle.write(`${answer}\n`);
  }

  /** When nobody will come any more. */
  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/**
 * The program that waits there, for /bin/sh. The name makes it one of a guest's processes for those who look for leftovers
 * (processes.ts).
 */
export function gateArgv(path: string): string[] {
  return ["runsc-gate", "-c", 'read -r answer <"$0" && [ "$answer" = go ]', path];
}
