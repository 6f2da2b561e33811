/** Plays a worker that has live copies of workspaces, over the worker's routes. */
import { randomBytes, randomUUID } from "node:crypto";
import {
  leaseResponse,
  pollWorkspacesResponse,
  type WorkspaceAppendItem,
  type WorkspaceCommand,
  type WorkspacePoll,
  workspaceAppendResponse,
} from "@helmr/api";
import { ensureBootstrapToken } from "@helmr/store";
import { vi } from "vitest";
import type { z } from "zod";
import { readAnswer, type TestServer } from "./server.ts";

type Lease = z.infer<typeof leaseResponse>;
type Without<T> = T extends unknown ? Omit<T, "number"> : never;
export type Item = Without<WorkspaceAppendItem>;

export interface LiveWorker {
  readonly id: string;
  post(path: string, body: unknown): Promise<{ status: number; body: Record<string, unknown> }>;
  lease(wanted: { runs?: number; materializations?: number; waitMs?: number }): Promise<Lease>;
  /** The copy that is asked for, up. */
  bringUp(): Promise<LiveCopy>;
  /** The guest of a run that is asked for as a live copy. */
  attach(): Promise<LiveCopy>;
}

export interface LiveCopy {
  readonly id: string;
  readonly leaseId: string;
  readonly fencing: number;
  /** What there is to do after what was taken before; at most `waitMs`. */
  poll(waitMs?: number): Promise<WorkspacePoll>;
  /** The next command of the kind, with the data beside it. */
  command<Kind extends WorkspaceCommand["kind"]>(
    kind: Kind,
  ): Promise<Extract<WorkspaceCommand, { kind: Kind }> & { readonly data: Buffer }>;
  append(...items: Item[]): Promise<z.infer<typeof workspaceAppendResponse>>;
  started(): Promise<void>;
  finish(outcome?: Record<string, unknown>): Promise<{ status: number }>;
  post(path: string, body: object): Promise<{ status: number; body: Record<string, unknown> }>;
}

export async function registerLiveWorker(server: TestServer, id: string = randomUUID()): Promise<LiveWorker> {
  const token = `hlmr_bt_${randomBytes(32).toString("base64url")}`;
  await ensureBootstrapToken(server.db, token);
  const send = async (bearer: string, path: string, body: unknown) => {
    const response = await fetch(`${server.url}/api/worker/v1/${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${bearer}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    return await readAnswer(response);
  };
  const registered = await send(token, "register", {
    protocol: "helmr.worker.v1",
    worker_instance_id: id,
    name: "live",
    version: "0.0.0",
    capacity: { runs: 4, builds: 1, materializations: 4, cpu: 2, memory_mib: 1024 },
    capabilities: {
      driver: "gvisor",
      driver_version: "1",
      architecture: "x64",
      limits: { cpu: true, memory: true, disk: false },
      network: true,
    },
  });
  if (registered.status !== 200) throw new Error(`register: ${JSON.stringify(registered.body)}`);
  const post: LiveWorker["post"] = (path, body) => send(registered.body.credential, path, body);
  const ok = async (path: string, body: unknown) => {
    const answer = await post(path, body);
    if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const lease: LiveWorker["lease"] = async ({ runs = 0, materializations = 0, waitMs = 5000 }) =>
    leaseResponse.parse(
      await ok("lease", {
        max_runs: runs,
        max_builds: 0,
        max_materializations: materializations,
        wait_ms: waitMs,
      }),
    );
  return {
    id,
    post,
    lease,
    bringUp: async () => {
      const [assignment] = (await lease({ materializations: 1 })).materializations;
      if (assignment === undefined) throw new Error("no live copy was leased");
      const { materialization_id, lease_id, fencing } = assignment;
      const copy = liveCopy({ post, ok }, { id: materialization_id, leaseId: lease_id, fencing });
      await copy.started();
      return copy;
    },
    attach: async () => {
      const polled = await ok("workspaces/poll", { materializations: [], wait_ms: 5000 });
      const [attached] = pollWorkspacesResponse.parse(polled).attached;
      if (attached === undefined) throw new Error("no guest of a run is asked for");
      const { materialization_id, run_lease_id, fencing } = attached;
      const copy = liveCopy({ post, ok }, { id: materialization_id, leaseId: run_lease_id, fencing });
      await copy.started();
      return copy;
    },
  };
}

interface Wire {
  readonly post: LiveWorker["post"];
  ok(path: string, body: unknown): Promise<Record<string, unknown>>;
}

function liveCopy(
  { post, ok }: Wire,
  { id, leaseId, fencing }: Pick<LiveCopy, "id" | "leaseId" | "fencing">,
): LiveCopy {
  const at = `materializations/${id}`;
  let number = 0;
  let taken = 0;
  const poll = async (waitMs = 0) =>
    pollWorkspacesResponse.parse(
      await ok("workspaces/poll", {
        materializations: [{ materialization_id: id, fencing, after_seq: taken }],
        wait_ms: waitMs,
      }),
    );
  return {
    id,
    leaseId,
    fencing,
    poll,
    command: (kind) =>
      vi.waitUntil(
        async () => {
          const [next] = (await poll(1000)).commands;
          if (next === undefined) return undefined;
          if (next.command.kind !== kind) throw new Error(`${next.command.kind} comes before ${kind}`);
          taken = next.seq;
          // biome-ignore lint/suspicious/noExplicitAny: its kind was compared
          return { ...(next.command as any), data: Buffer.from(next.data_base64 ?? "", "base64") };
        },
        { timeout: 10_000, interval: 5 },
      ),
    append: async (...items) => {
      const numbered = items.map((item) => {
        number += 1;
        return { ...item, number };
      });
      return workspaceAppendResponse.parse(await ok(`${at}/append`, { fencing, items: numbered }));
    },
    started: async () => void (await ok(`${at}/started`, { fencing, start_ms: 1 })),
    finish: (outcome = { status: "stopped" }) => post(`${at}/finish`, { fencing, outcome }),
    post: (path, body) => post(`${at}/${path}`, { fencing, ...body }),
  };
}

/** A piece of a stream. */
export function output(
  resourceId: string,
  stream: "stdout" | "stderr" | "output",
  offset: number,
  text: string | Buffer,
): Item {
  return {
    kind: "output",
    resource_id: resourceId,
    stream,
    offset,
    content_base64: Buffer.from(text).toString("base64"),
    observed_at: "2026-06-06T00:00:00.000Z",
  };
}
