/** POST workspaces/poll and materializations/:id/...: live copies of workspaces, and what is done in them. */
import {
  finishMaterializationRequest,
  materializationStartedRequest,
  pollWorkspacesRequest,
  type WorkspacePoll,
  workspaceAppendRequest,
  type workspaceAppendResponse,
  workspaceRequestResult,
} from "@helmr/api";
import {
  acknowledgeCommands,
  answerRequest,
  appendToMaterialization,
  bindRunCopies,
  finishMaterialization,
  type HeldMaterialization,
  noteIdle,
  pollWorkspaces,
  startMaterialization,
  type WorkspacePollResult,
  yieldToRuns,
} from "@helmr/store";
import type { FastifyInstance, FastifyRequest } from "fastify";
import { z } from "zod";
import { tellEnded, tellExecs } from "../hints.ts";
import { WakeUp } from "../http/wake-up.ts";
import type { WorkerContext } from "./context.ts";
import { leaseLost } from "./errors.ts";
import { requestSignal } from "./request-signal.ts";

/** How late a lost hint is noticed. */
const slowPollMs = 1000;
/** 1 MiB of output in base64, and what is around it. */
const appendBodyLimit = 2 * 1024 * 1024;
/** 16 MiB of a live file in base64, or a page of entries. */
const resultBodyLimit = 24 * 1024 * 1024;

const params = z.object({ id: z.uuid() });
const requestParams = z.object({ id: z.uuid(), request_id: z.uuid() });

export function workspaceRoutes(app: FastifyInstance, context: WorkerContext): void {
  const { db, bus, workspaces } = context;

  app.post("/workspaces/poll", async (request, reply): Promise<WorkspacePoll> => {
    const { workerInstanceId } = await context.authentication.worker(request);
    const body = pollWorkspacesRequest.parse(request.body);
    const held = body.materializations.map((each) => ({
      materializationId: each.materialization_id,
      fencing: each.fencing,
      afterSeq: each.after_seq,
    }));
    const signal = requestSignal(request, reply, context.closing);
    return answerOf(await poll(context, workerInstanceId, held, body.wait_ms, signal));
  });

  app.post("/materializations/:id/started", async (request) => {
    const ref = await refOf(context, request);
    const { fencing } = materializationStartedRequest.parse(request.body);
    const idleStopMs = workspaces.idleStopMs;
    const started = await startMaterialization(db, { ...ref, fencing, idleStopMs });
    if (started === undefined) throw leaseLost();
    // Commands were kept until now.
    bus.publish(`workspaces:${ref.workerInstanceId}`);
    bus.publish(`workspace:${started.workspace_id}`);
    return {};
  });

  app.post(
    "/materializations/:id/append",
    { bodyLimit: appendBodyLimit },
    async (request): Promise<z.infer<typeof workspaceAppendResponse>> => {
      const ref = await refOf(context, request);
      const body = workspaceAppendRequest.parse(request.body);
      const items = body.items.toSorted((a, b) => a.number - b.number);
      const appended = await appendToMaterialization(db, { ...ref, fencing: body.fencing, items });
      if (appended === undefined) throw leaseLost();
      tellExecs(bus, appended.execIds, appended.ptyIds);
      if (appended.hasEnded) {
        const { workspaceId } = appended;
        await noteIdle(db, { workspaceId, idleStopMs: workspaces.idleStopMs });
        // A run may wait for the workspace.
        const stopped = await yieldToRuns(db, ref.workerInstanceId);
        if (stopped.length > 0) bus.publish(`workspaces:${ref.workerInstanceId}`);
      }
      return {
        acknowledged: appended.acknowledged,
        paused: appended.paused.map(({ resourceId, stream }) => ({ resource_id: resourceId, stream })),
      };
    },
  );

  app.post("/materializations/:id/requests/:request_id", { bodyLimit: resultBodyLimit }, async (request) => {
    const ref = await refOf(context, request);
    const requestId = requestParams.parse(request.params).request_id;
    const body = workspaceRequestResult.parse(request.body);
    const answered = await answerRequest(db, {
      ...ref,
      fencing: body.fencing,
      requestId,
      status: body.status,
      result: body.result,
      data: body.data_base64 === undefined ? undefined : Buffer.from(body.data_base64, "base64"),
    });
    if (answered === undefined) throw leaseLost();
    bus.publish(`workspace-request:${requestId}`);
    return {};
  });

  app.post("/materializations/:id/finish", async (request) => {
    const ref = await refOf(context, request);
    const { fencing, outcome } = finishMaterializationRequest.parse(request.body);
    const ended = await finishMaterialization(db, { ...ref, fencing, outcome });
    if (ended === undefined) throw leaseLost();
    tellEnded(bus, ended);
    return {};
  });
}

/** Answer at once when there is something, else when there is. */
async function poll(
  { db, bus }: WorkerContext,
  workerInstanceId: string,
  held: readonly HeldMaterialization[],
  waitMs: number,
  signal: AbortSignal,
): Promise<WorkspacePollResult> {
  const deadline = performance.now() + waitMs;
  // Subscribed before the first look: what is queued after it is not missed.
  using wakeUp = new WakeUp(bus, `workspaces:${workerInstanceId}`, signal);
  await acknowledgeCommands(db, workerInstanceId, held);
  let repairAt = 0;
  for (;;) {
    // What no hint tells of; not at every key press.
    if (performance.now() >= repairAt) {
      await bindRunCopies(db, workerInstanceId);
      if (held.length > 0) await yieldToRuns(db, workerInstanceId);
      repairAt = performance.now() + slowPollMs / 2;
    }
    const result = await pollWorkspaces(db, workerInstanceId, held);
    const { attached, commands, lost } = result;
    const leftMs = deadline - performance.now();
    if (attached.length + commands.length + lost.length > 0) return result;
    if (leftMs <= 0 || signal.aborted) return result;
    await wakeUp.wait(Math.min(leftMs, slowPollMs * (0.75 + Math.random() / 2)));
  }
}

function answerOf({ attached, commands, lost }: WorkspacePollResult): WorkspacePoll {
  return {
    attached: attached.map((copy) => ({
      materialization_id: copy.materializationId,
      workspace_id: copy.workspaceId,
      run_id: copy.runId,
      run_lease_id: copy.leaseId,
      fencing: copy.fencing,
    })),
    commands: commands.map(({ materializationId, seq, command, data }) => ({
      materialization_id: materializationId,
      seq,
      command,
      ...(data === null ? {} : { data_base64: data.toString("base64") }),
    })),
    lost: [...lost],
  };
}

/** Worker and live copy of a request; whether they belong together is decided by the store's statement. */
async function refOf(context: WorkerContext, request: FastifyRequest) {
  const { workerInstanceId } = await context.authentication.worker(request);
  return { workerInstanceId, materializationId: params.parse(request.params).id };
}
