/**
 * A guest on its way up: everything acquired, its sandbox being made, no process of it running yet.
 *
 * | phase    | enters by                     | leaves by                                                          |
 * |----------|-------------------------------|--------------------------------------------------------------------|
 * | starting | begin                         | run(): processes run -> the guest's; failed, release() -> released |
 * | released | everything is gone            | never                                                              |
 *
 *  T1  What was acquired belongs to the guest when `run` has resolved; it is released before `run` or `begin` rejects (I3).
 *  T2  Of a restore nothing is read from the image before `run`.
 */
import { IsolationError, messageOf } from "../errors.ts";
import type { GuestSpec } from "../isolation.ts";
import type { HostContext } from "./context.ts";
import { GvisorGuest } from "./guest.ts";
import { endProcesses, type PreparedGuest, prepareGuest, type Release, releaseAll } from "./resources.ts";
import { Sandbox } from "./sandbox.ts";

export class StartingGuest {
  readonly #context: HostContext;
  readonly #spec: GuestSpec;
  readonly #releases: Release[];
  readonly #sandbox: Sandbox;
  readonly #cgroup: PreparedGuest["cgroup"];
  readonly #gate: PreparedGuest["gate"];
  #released: Promise<void> | undefined;

  private constructor(
    context: HostContext,
    spec: GuestSpec,
    releases: Release[],
    { sandbox, cgroup, gate, traces }: PreparedGuest,
  ) {
    this.#context = context;
    this.#spec = spec;
    this.#releases = releases;
    this.#cgroup = cgroup;
    this.#gate = gate;
    this.#sandbox = new Sandbox(sandbox);
    releases.push(async () => {
      await gate?.answer("no");
      await endProcesses(this.#sandbox, cgroup, traces);
    });
  }

  /** Acquires everything; `image` is the folder of the checkpoint's image to go on from, complete when `run` is called. */
  static async begin(context: HostContext, spec: GuestSpec, image?: string): Promise<StartingGuest> {
    const releases: Release[] = [];
    try {
      const prepared = await prepareGuest(context, spec, image, releases);
      return new StartingGuest(context, spec, releases, prepared);
    } catch (error) {
      await release(context, spec, releases);
      throw asIsolationError(spec, error);
    }
  }

  /** Resolves when the guest's processes run. */
  async run(): Promise<GvisorGuest> {
    try {
      await this.#gate?.answer("go"); // T2
      await this.#sandbox.started();
    } catch (error) {
      await this.release();
      throw asIsolationError(this.#spec, error);
    }
    return new GvisorGuest({
      context: this.#context,
      spec: this.#spec,
      sandbox: this.#sandbox,
      cgroup: this.#cgroup,
      releases: this.#releases,
    });
  }

  /** Not after `run` has resolved. Safe to call twice. */
  release(): Promise<void> {
    this.#released ??= release(this.#context, this.#spec, this.#releases);
    return this.#released;
  }
}

async function release(context: HostContext, spec: GuestSpec, releases: readonly Release[]): Promise<void> {
  const problems = await releaseAll(releases);
  for (const problem of problems) context.logger.warn({ guest: spec.id, problem }, "guest cleanup failed");
}

function asIsolationError(spec: GuestSpec, error: unknown): IsolationError {
  if (error instanceof IsolationError) return error;
  return new IsolationError("host", `cannot start guest ${spec.id}: ${messageOf(error)}`, { cause: error });
}
