/**
 * One guest under gVisor whose processes run, to its end. How it comes to that: starting.ts.
 *
 * | phase    | enters by                    | leaves by                                               |
 * |----------|------------------------------|---------------------------------------------------------|
 * | running  | its processes run            | pause, checkpoint; the process ends, destroy() -> ending |
 * | paused   | pause()                      | resume() -> running; checkpoint(); destroy() -> ending  |
 * | saving   | checkpoint()                 | saved -> held; failed -> running, or ending if it cannot |
 * | held     | checkpoint() resolved        | resume() -> running; destroy() -> ending                |
 * | ending   | cleanup begins               | everything is gone -> gone                              |
 * | gone     | cleanup ended                | never; `exited` is resolved (I3)                        |
 *
 *  G1, G2: see resources.ts.
 *  G3  Cleanup runs once, whoever asks for it first.
 *  G4  From the instant that is saved until `resume` no process of the guest runs: it is paused before and stays so.
 *  G5  The image is written by the sandbox, so its tmpfs pages count as the guest's: the limit makes room for them, and is
 *      lowered again only when they are gone.
 */
import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import type { Duplex, Readable } from "node:stream";
import type { CheckpointRecord } from "../checkpoint.ts";
import { errorCode, IsolationError, messageOf } from "../errors.ts";
import { killProcess } from "../host/cgroup.ts";
import type { Guest, GuestExit, GuestSpec } from "../isolation.ts";
import { checkpointHost, describeImage } from "./checkpoint.ts";
import type { HostContext } from "./context.ts";
import { memoryLimitMib, type PreparedGuest, type Release, releaseAll } from "./resources.ts";
import type { Sandbox } from "./sandbox.ts";

interface GuestParts {
  readonly context: HostContext;
  readonly spec: GuestSpec;
  readonly sandbox: Sandbox;
  readonly cgroup: PreparedGuest["cgroup"];
  readonly releases: readonly Release[];
}

type Phase =
  | { readonly name: "running" | "paused" | "saving" }
  /** `image`: the folder whose files `resume` removes. */
  | { readonly name: "held"; readonly image: string };

export class GvisorGuest implements Guest {
  readonly id: string;
  readonly stream: Duplex;
  readonly stderr: Readable;
  readonly exited: Promise<GuestExit>;
  /** As `exited`. */
  readonly gone: Promise<unknown>;
  readonly #parts: GuestParts;
  #phase: Phase = { name: "running" };
  #destroyed = false;

  constructor(parts: GuestParts) {
    this.id = parts.spec.id;
    this.#parts = parts;
    this.stream = parts.sandbox.stream;
    this.stderr = parts.sandbox.stderr;
    this.exited = this.#end();
    this.gone = this.exited;
  }

  async pause(): Promise<void> {
    if (this.#phase.name === "paused") return;
    if (this.#phase.name !== "running") throw this.#wrongPhase("pause");
    const { cgroup, sandbox } = this.#parts;
    if (cgroup?.canFreeze === true) await cgroup.freeze(true);
    else await sandbox.pause();
    this.#phase = { name: "paused" };
  }

  async resume(): Promise<void> {
    const phase = this.#phase;
    if (phase.name === "saving") throw this.#wrongPhase("resume");
    if (phase.name === "held") await this.#letGo(phase.image);
    if (phase.name === "paused") await this.#thaw();
    this.#phase = { name: "running" };
  }

  async checkpoint({ directory }: { readonly directory: string }): Promise<CheckpointRecord> {
    const { spec, context } = this.#parts;
    const phase = this.#phase;
    if (phase.name === "saving" || phase.name === "held") throw this.#wrongPhase("checkpoint");
    if (spec.captureWritesTo !== undefined) {
      throw new IsolationError("spec", `guest "${spec.id}" writes a layer and cannot be saved`);
    }
    const image = path.resolve(directory);
    if ((await readdir(image)).length > 0)
      throw new IsolationError("spec", `${image} is not empty: a checkpoint needs a folder of its own`);
    this.#phase = { name: "saving" };
    try {
      // A frozen sandbox answers no command: its processes run for the moment between the two ways of stopping them.
      if (phase.name === "paused") await this.#thaw();
      await this.#save(image);
      const extraCa = context.settings.extraCaCertificates !== undefined;
      const host = await checkpointHost(context.settings.runscPath);
      const record = await describeImage(image, host, spec, extraCa);
      this.#phase = { name: "held", image };
      return record;
    } catch (error) {
      await this.#undo(image);
      throw error;
    }
  }

  async oomKills(): Promise<number> {
    return (await this.#parts.cgroup?.oomKills()) ?? 0;
  }

  async destroy(): Promise<void> {
    if (!this.#destroyed) {
      this.#destroyed = true;
      const { cgroup, sandbox } = this.#parts;
      await cgroup?.killAll();
      if (cgroup === undefined) for (const pid of await sandbox.processIds()) killProcess(pid);
    }
    await this.exited;
  }

  async #save(image: string): Promise<void> {
    const { cgroup, sandbox, spec } = this.#parts;
    const roomMib = memoryLimitMib(spec) + spec.resources.diskMib;
    await cgroup?.limitMemory(memoryLimitMib(spec) + roomMib); // G5
    await sandbox.pause(); // G4
    await sandbox.save(image);
  }

  /**
   * Back to running. A sandbox whose pause failed half way (runsc was killed) may be stopped without knowing how often: it
   * refuses to resume, and a guest that cannot go on is of no use to anybody.
   */
  async #undo(image: string): Promise<void> {
    try {
      await this.#letGo(image);
      this.#phase = { name: "running" };
    } catch (error) {
      const problem = messageOf(error);
      this.#parts.context.logger.warn({ guest: this.id, problem }, "a guest that could not be saved is lost");
      await this.destroy();
    }
  }

  /** Let the sandbox's tasks run again and remove the image. */
  async #letGo(image: string): Promise<void> {
    const { cgroup, sandbox, spec } = this.#parts;
    await sandbox.resume();
    for (const name of await namesIn(image)) await rm(path.join(image, name), { force: true });
    await cgroup?.limitMemory(memoryLimitMib(spec)); // G5
  }

  async #thaw(): Promise<void> {
    const { cgroup, sandbox } = this.#parts;
    if (cgroup?.canFreeze === true) await cgroup.freeze(false);
    else await sandbox.resume();
  }

  #wrongPhase(verb: string): IsolationError {
    return new IsolationError("spec", `cannot ${verb} guest "${this.id}": it is ${this.#phase.name}`);
  }

  /** Waits for the first process's end and releases everything: the only place that does (G3). */
  async #end(): Promise<GuestExit> {
    const exit = await this.#parts.sandbox.exit();
    const oomKills = await this.oomKills();
    const problems = await releaseAll(this.#parts.releases);
    const reason: GuestExit = oomKills > 0 && exit.reason !== "exited" ? { reason: "out_of_memory" } : exit;
    if (problems.length === 0) return reason;
    return { reason: "lost", detail: `the guest ended, but its cleanup failed: ${problems.join("; ")}` };
  }
}

/** Nothing when the caller has removed its folder already. */
async function namesIn(folder: string): Promise<string[]> {
  return await readdir(folder).catch((error) => {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  });
}
