import type { RunAssignment, WorkspaceCommand } from "@helmr/api";
import type { WorkerMessage } from "@helmr/guest-protocol";
import { pino } from "pino";
import { expect, it, vi } from "vitest";
import type { ControlPlaneClient } from "./control-plane-client.ts";
import { RequestRefusedError } from "./control-plane-client.ts";
import { LiveWorkspaces } from "./live-workspaces.ts";
import type { RunGuest } from "./run-guest.ts";
import { RunWorkspace, type RunWorkspaceOptions } from "./run-workspace.ts";

const uuid = (n: number) => `0198c3a0-0000-7000-8000-00000000000${n}`;
const [materializationId, leaseId, execId] = [uuid(1), uuid(2), uuid(3)];
const limit = { timeout: 10_000, interval: 5 };

/** A control plane that has one live copy of a run, until it hears of its end; `finishes` of them are lost on the way. */
function controlPlane({ refuses = false, lostFinishes = 0 } = {}) {
  const told: Record<string, unknown>[] = [];
  const commands: WorkspaceCommand[] = [];
  let isLive = true;
  const client = {
    pollWorkspaces: async ({ materializations }) => {
      await new Promise((resolve) => setTimeout(resolve, 2));
      const named = materializations.find((each) => each.materialization_id === materializationId);
      const copy = { materialization_id: materializationId };
      return {
        attached:
          isLive && named === undefined
            ? [{ ...copy, workspace_id: uuid(4), run_id: uuid(5), run_lease_id: leaseId, fencing: 1 }]
            : [],
        commands: commands.flatMap((command, at) =>
          named !== undefined && at >= named.after_seq ? [{ ...copy, seq: at + 1, command }] : [],
        ),
        lost: [],
      };
    },
    materializationStarted: async () => undefined,
    workspaceAppend: async (_id, { items }) => {
      if (refuses) throw new RequestRefusedError("refused", "refused", undefined);
      if (!isLive) throw new RequestRefusedError("it is over", "it is over", undefined);
      told.push(...items);
      return { acknowledged: 0, paused: [] };
    },
    finishMaterialization: async (_id, { outcome }) => {
      told.push(outcome);
      if (lostFinishes > 0) {
        lostFinishes -= 1;
        throw new Error("away");
      }
      isLive = false;
    },
  } satisfies Partial<ControlPlaneClient> as unknown as ControlPlaneClient;
  return { client, told, commands, isLive: () => isLive };
}

/** A run whose guest has a program that ends with 3 some time after SIGTERM. */
function running(client: ControlPlaneClient) {
  const logger = pino({ level: "silent" });
  const live = new LiveWorkspaces(client, logger);
  const workspace = new RunWorkspace({
    run: { lease_id: leaseId, sandbox: { definition: { workspace_mount_path: "/w" } } } as RunAssignment,
    client,
    live,
    onActivity: () => undefined,
    signal: new AbortController().signal,
    logger,
  } as RunWorkspaceOptions);
  const send = async (message: WorkerMessage): Promise<void> => {
    const answer = (event: Parameters<RunWorkspace["receive"]>[0], ms: number) =>
      setTimeout(() => expect(workspace.receive(event)).toBeUndefined(), ms);
    if (message.type === "exec.start") answer({ type: "exec.started", exec_id: execId, pid: 7 }, 0);
    if (message.type === "exec.signal") answer({ type: "exec.exited", exec_id: execId, code: 3 }, 100);
  };
  workspace.offer();
  workspace.use({ session: { send }, disk: { mountPoint: "/nowhere" } } as unknown as RunGuest);
  workspace.started(1);
  return { workspace, live };
}

const start: WorkspaceCommand = { kind: "exec.start", exec_id: execId, command: ["x"], cwd: "", env: {} };

it("gives what operators run its grace when their live copy is stopped, and tells its end once", async () => {
  const { client, told, commands, isLive } = controlPlane();
  const { workspace, live } = running(client);
  commands.push(start);
  await vi.waitUntil(() => told.length === 1, limit);
  commands.push({ kind: "stop" });
  await vi.waitUntil(() => !isLive(), limit);
  expect(told).toEqual([
    expect.objectContaining({ kind: "exec.started", number: 1 }),
    expect.objectContaining({ kind: "exec.exited", number: 2, state: "exited", exit_code: 3 }),
    { status: "stopped" },
  ]);
  workspace.drop();
  await live.stop();
});

it("tells the end of a live copy it can report nothing of until it is heard, and takes it no second time", async () => {
  const { client, told, commands, isLive } = controlPlane({ refuses: true, lostFinishes: 1 });
  const { workspace, live } = running(client);
  commands.push(start);
  await vi.waitUntil(() => !isLive(), limit);
  const failed = { status: "failed", unsaved: false, message: expect.stringContaining("refused") };
  expect(told).toEqual([failed, failed]);
  workspace.drop();
  await live.stop();
});
