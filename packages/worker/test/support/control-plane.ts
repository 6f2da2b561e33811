/** A control plane that follows a script: the worker's wire over real HTTP, with everything it was told kept. */
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { json } from "node:stream/consumers";
import {
  appendRequest,
  type BuildAssignment,
  buildEventsRequest,
  finishBuildRequest,
  finishRunRequest,
  type RunAssignment,
  recordVersionRequest,
  registerWorkerRequest,
  startLeaseRequest,
  type VersionRef,
} from "@helmr/api";
import type { z } from "zod";

type AppendItem = z.infer<typeof appendRequest>["items"][number];
export type RunOutcome = z.infer<typeof finishRunRequest>["outcome"];
export type BuildOutcome = z.infer<typeof finishBuildRequest>["outcome"];

/** All that was reported under one lease. */
export class LeaseRecord {
  started: z.infer<typeof startLeaseRequest> | undefined;
  startedAt = 0;
  readonly items: AppendItem[] = [];
  readonly events: z.infer<typeof buildEventsRequest>["items"] = [];
  readonly finished = Promise.withResolvers<RunOutcome | BuildOutcome>();
  outcome: RunOutcome | BuildOutcome | undefined;
  /** Of a run: what was saved of its workspace. */
  readonly versions: z.infer<typeof recordVersionRequest>[] = [];
  lost = false;
  cancel: { reason: string; force: boolean } | undefined;
  readonly #waiters: { test: () => boolean; resolve: () => void }[] = [];

  /** Resolves when `test` holds; asked again at every report. */
  until(test: () => boolean): Promise<void> {
    if (test()) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ test, resolve }));
  }

  changed(): void {
    for (const waiter of this.#waiters) if (waiter.test()) waiter.resolve();
  }

  /** Everything logged to a stream, as text. */
  log(stream: "stdout" | "stderr"): string {
    const chunks = this.items.flatMap((item) =>
      item.kind === "log" && item.stream === stream ? [Buffer.from(item.content_base64, "base64")] : [],
    );
    return Buffer.concat(chunks).toString("utf8");
  }

  get logBytes(): number {
    return this.items.reduce(
      (sum, item) => sum + (item.kind === "log" ? (item.content_base64.length * 3) / 4 : 0),
      0,
    );
  }

  get messages(): string {
    return this.events.map((event) => event.message).join("\n");
  }
}

export class ScriptedControlPlane {
  readonly leases = new Map<string, LeaseRecord>();
  readonly buildSecrets = new Map<string, string>();
  readonly registrations: z.infer<typeof registerWorkerRequest>[] = [];
  /** Current version by workspace. */
  readonly workspaces = new Map<string, VersionRef>();
  readonly #workspaceOf = new Map<string, string>();
  readonly #runs: RunAssignment[] = [];
  readonly #builds: BuildAssignment[] = [];
  readonly #server: Server = createServer((request, response) => void this.#answer(request, response));
  #wake = Promise.withResolvers<void>();

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#wake.resolve();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  run(assignment: RunAssignment): LeaseRecord {
    this.#runs.push(assignment);
    this.#workspaceOf.set(assignment.lease_id, assignment.workspace_id);
    return this.#offer(assignment.lease_id);
  }

  build(assignment: BuildAssignment): LeaseRecord {
    this.#builds.push(assignment);
    return this.#offer(assignment.lease_id);
  }

  #offer(leaseId: string): LeaseRecord {
    const record = new LeaseRecord();
    this.leases.set(leaseId, record);
    this.#wake.resolve();
    this.#wake = Promise.withResolvers<void>();
    return record;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const [status, body] = await this.#route(request.url ?? "", await json(request), response);
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    } catch (error) {
      response
        .writeHead(400, { "content-type": "application/json" })
        .end(JSON.stringify({ error: String(error) }));
    }
  }

  async #route(url: string, body: unknown, response: ServerResponse): Promise<[number, unknown]> {
    const path = url.replace("/api/worker/v1/", "");
    if (path === "register") {
      this.registrations.push(registerWorkerRequest.parse(body));
      return [
        200,
        { credential: `hlmr_wk_${"a".repeat(43)}`, heartbeat_interval_ms: 200, lease_duration_ms: 30_000 },
      ];
    }
    if (path === "heartbeat") return [200, this.#heartbeat(body as { leases: { lease_id: string }[] })];
    if (path === "lease")
      return [
        200,
        await this.#lease(body as { max_runs: number; max_builds: number; wait_ms: number }, response),
      ];
    if (path === "workspaces/poll") {
      await this.#idle((body as { wait_ms: number }).wait_ms, response);
      return [200, { attached: [], commands: [], lost: [] }];
    }
    if (path === "uploads/reserve") return [200, {}];
    const [, leaseId = "", verb = ""] = /^(?:leases|builds)\/([\w-]+)\/(\w+)$/.exec(path) ?? [];
    const record = this.leases.get(leaseId);
    if (record === undefined || record.lost) return [409, { error: "the lease is lost", code: "lease_lost" }];
    if (verb === "versions") return [200, { version: this.#save(leaseId, record, body) }];
    return [200, this.#report(record, verb, path.startsWith("builds/"), body)];
  }

  #save(leaseId: string, record: LeaseRecord, body: unknown): VersionRef {
    const saved = recordVersionRequest.parse(body);
    const version = { version_id: randomUUID(), manifest_digest: saved.manifest_digest };
    record.versions.push(saved);
    this.workspaces.set(this.#workspaceOf.get(leaseId) ?? "", version);
    return version;
  }

  #report(record: LeaseRecord, verb: string, isBuild: boolean, body: unknown): unknown {
    if (verb === "start") {
      record.started = startLeaseRequest.parse(body);
      record.startedAt = performance.now();
    } else if (verb === "append") {
      for (const item of appendRequest.parse(body).items)
        if (item.number === record.items.length + 1) record.items.push(item);
    } else if (verb === "events") record.events.push(...buildEventsRequest.parse(body).items);
    else if (verb === "secrets") return { values: Object.fromEntries(this.buildSecrets), missing: [] };
    else if (verb === "finish") {
      record.outcome = (isBuild ? finishBuildRequest : finishRunRequest).parse(body).outcome;
      record.finished.resolve(record.outcome);
    }
    record.changed();
    return verb === "append"
      ? { acknowledged: record.items.length }
      : verb === "finish"
        ? { status: "accepted" }
        : {};
  }

  #heartbeat({ leases }: { leases: { lease_id: string }[] }): unknown {
    const answers = leases.map(({ lease_id }) => {
      const record = this.leases.get(lease_id);
      const status = record === undefined || record.lost ? "lost" : "active";
      return { lease_id, status, ...(record?.cancel === undefined ? {} : { cancel: record.cancel }) };
    });
    return { leases: answers, draining: false };
  }

  async #lease(
    ask: { max_runs: number; max_builds: number; wait_ms: number },
    response: ServerResponse,
  ): Promise<unknown> {
    const deadline = performance.now() + ask.wait_ms;
    const idle = this.#idle(ask.wait_ms, response);
    while (!response.destroyed && performance.now() < deadline) {
      const runs = this.#runs.splice(0, ask.max_runs).map((run) => this.#withFiles(run));
      const builds = this.#builds.splice(0, ask.max_builds);
      if (runs.length + builds.length > 0) return { runs, builds, materializations: [] };
      await Promise.race([this.#wake.promise, idle]);
    }
    return { runs: [], builds: [], materializations: [] };
  }

  #withFiles(run: RunAssignment): RunAssignment {
    const version = this.workspaces.get(run.workspace_id);
    return version === undefined ? run : { base_version: version, ...run };
  }

  /** Until the time is over or nobody waits for the answer. */
  async #idle(ms: number, response: ServerResponse): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise((resolve) => {
      timer = setTimeout(resolve, ms);
    });
    await Promise.race([once(response, "close").catch(() => undefined), limit]);
    clearTimeout(timer);
  }
}
