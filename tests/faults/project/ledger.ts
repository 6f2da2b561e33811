/** What a task writes down about itself: on a stream, and on stdout, whose chunks carry the lease that wrote them. */
import { randomUUID } from "node:crypto";
import { image, type PayloadSchema, sandbox, streams, type TaskContext } from "@helmr/sdk";

export const box = sandbox("box")
  .image(image("box").from("node:24-bookworm-slim"))
  .resources({ cpu: 1, memory: "512MiB" });

const ledger = streams.output("ledger");

/** A Standard Schema that takes everything: the project installs nothing. */
export function anything<T>(): PayloadSchema<T> {
  return { "~standard": { version: 1, vendor: "hand", validate: (value) => ({ value: value as T }) } };
}

/** `boot` is made once per execution: a saved guest keeps it, an attempt that starts again has another. */
export class Ledger {
  readonly #boot = randomUUID();
  readonly #context: TaskContext;
  #step = 0;

  constructor(context: TaskContext) {
    this.#context = context;
  }

  async write(what: Readonly<Record<string, unknown>>): Promise<void> {
    this.#step += 1;
    const { id: run, attemptNumber: attempt } = this.#context.run;
    const entry = { run, attempt, boot: this.#boot, step: this.#step, ...what };
    console.log(JSON.stringify(entry));
    await ledger.append(entry);
  }
}
