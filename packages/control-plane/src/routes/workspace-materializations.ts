/** Live copies of workspaces: brought up, stopped, saved while they live (contract 7). */
import { ApiError, codedError, parseDurationMs } from "@helmr/api";
import {
  getVersion,
  noteCapture,
  type RequestedCapture,
  requestCapture,
  requestMaterialization,
  requestStop,
} from "@helmr/store";
import type { Context } from "../context.ts";
import { tellEnded, tellMaterialization, tellRequested } from "../hints.ts";
import type { Call, Handlers } from "../http/handlers.ts";
import { presentMaterialization } from "../present/materialization.ts";
import { presentVersion } from "../present/workspace.ts";
import { failureOf, waitForAnswer } from "../workspaces/live-files.ts";
import { afterStop } from "../workspaces/wait.ts";
import { found } from "./found.ts";

const keyTtlMs = 24 * 3_600_000;

type MaterializationHandlers = Pick<
  Handlers,
  "materializeWorkspace" | "connectWorkspace" | "stopWorkspace" | "captureWorkspaceVersion"
>;

type MaterializeCall = Pick<
  Parameters<MaterializationHandlers["materializeWorkspace"]>[0],
  "actor" | "scope" | "params" | "reply" | "stillAllowed"
>;

export function materializationHandlers(context: Context): MaterializationHandlers {
  const { db, bus } = context;
  const materialize = async (call: MaterializeCall) => {
    const { scope, params } = call;
    const requested = await afterStop(context, call, params.workspaceID, async () =>
      found(await requestMaterialization(db, scope, params.workspaceID), "workspace"),
    );
    tellRequested(bus, requested);
    return {
      status: requested.created ? 201 : 200,
      body: presentMaterialization(requested.materialization),
    } as const;
  };
  return {
    materializeWorkspace: materialize,
    connectWorkspace: materialize,
    stopWorkspace: async ({ scope, params, body }) => {
      const stopped = found(
        await requestStop(db, scope, params.workspaceID, {
          idempotencyKey: body.idempotency_key,
          idempotencyKeyTtlMs: ttlOf(body.idempotency_key_ttl),
        }),
        "workspace",
      );
      tellEnded(bus, stopped.ended);
      const { materialization } = stopped;
      if (materialization === undefined) {
        return {
          status: 200,
          body: { workspace_id: params.workspaceID, state: "no_active_materialization" },
        };
      }
      if (materialization.ended_at === null) tellMaterialization(bus, materialization);
      return {
        status: 200,
        body: {
          workspace_id: params.workspaceID,
          state: materialization.state,
          materialization: presentMaterialization(materialization),
        },
      };
    },
    captureWorkspaceVersion: (call) => capture(context, call),
  };
}

type CaptureCall = Parameters<MaterializationHandlers["captureWorkspaceVersion"]>[0];

/** 201: a new version; 200: one that is there already, because nothing changed since, or the key was used. */
async function capture(
  context: Context,
  call: CaptureCall,
): ReturnType<MaterializationHandlers["captureWorkspaceVersion"]> {
  const { scope, params, body } = call;
  const workspaceId = params.workspaceID;
  const request = {
    message: body.message,
    idempotencyKey: body.idempotency_key,
    idempotencyKeyTtlMs: keyTtlMs,
  };
  const captured = await afterStop(context, call, workspaceId, async () =>
    found(await requestCapture(context.db, scope, workspaceId, request), "workspace"),
  );
  const versionId = captured.versionId ?? (await answerOf(context, call, captured));
  const version = found(await getVersion(context.db, scope, workspaceId, versionId), "version");
  await noteCapture(context.db, scope, workspaceId, { ...request, versionId });
  const isNew = captured.versionId === undefined && versionId !== captured.currentVersionId;
  return { status: isNew ? 201 : 200, body: { version: presentVersion(version) } };
}

async function answerOf(
  context: Context,
  call: Pick<Call<{ access: { kind: "environment" } }>, "actor" | "reply" | "scope" | "stillAllowed">,
  { requestId, requested }: RequestedCapture,
): Promise<string> {
  if (requestId === undefined) throw codedError("workspace_not_live");
  if (requested !== undefined) tellRequested(context.bus, requested);
  const answer = await waitForAnswer(context, call, call.scope, requestId, {
    tooLong: "the workspace is not saved yet; try again, and look at its versions",
  });
  if (answer.status === "failed") throw failureOf(answer);
  const versionId = answer.result?.version_id;
  if (typeof versionId !== "string") throw new ApiError(503, "the workspace is not saved yet; try again");
  return versionId;
}

function ttlOf(text: string | undefined): number {
  return (text === undefined ? undefined : parseDurationMs(text)) ?? keyTtlMs;
}
