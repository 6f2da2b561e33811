/** Reading the files of a live copy (contract 7.7, source=live): its worker is asked, and its answer waited for. */
import { ApiError, codedError, workspaceEntry } from "@helmr/api";
import { askLive, getLiveMaterialization, type LiveAnswer, type Scope, takeAnswer } from "@helmr/store";
import { z } from "zod";
import type { Context } from "../context.ts";
import { tellCommand } from "../hints.ts";
import { type WaitingCall, waitFor } from "./wait.ts";

export interface LiveCopyOf {
  readonly scope: Scope;
  readonly workspaceId: string;
  /** Default: whichever is live. */
  readonly materializationId?: string | undefined;
}

export type LiveFilesQuestion =
  | { readonly operation: "stat"; readonly path: string }
  | {
      readonly operation: "list";
      readonly path: string;
      readonly after?: string | undefined;
      readonly limit: number;
    }
  | { readonly operation: "read"; readonly path: string; readonly start: number; readonly limit: number };

/** What each question is answered with; `data` are fewer bytes than were asked for at the end, or when the worker gives less. */
export interface LiveFilesAnswers {
  readonly stat: { readonly entry: LiveEntry };
  readonly list: { readonly entries: readonly LiveEntry[]; readonly nextAfter?: string | undefined };
  readonly read: { readonly entry: LiveEntry; readonly data: Buffer };
}

export type LiveEntry = z.infer<typeof workspaceEntry>;

const maxWaitMs = 60_000;
/** One question reads no more. */
export const maxLiveReadBytes = 16 * 1024 * 1024;

const failure = z.object({ code: z.string().optional(), message: z.string() });
/** What a worker's codes mean for who asked; others are 409. */
const statuses: ReadonlyMap<string, number> = new Map([
  ["not_found", 404],
  ["invalid_path", 400],
  ["is_a_directory", 400],
  ["not_a_directory", 400],
  ["not_a_file", 400],
]);

/**
 * Ask the worker of the live copy. Throws workspace_not_live, workspace_live_failed, 404 and 400 for what the path is, and
 * 503 when there is no answer in time.
 */
export async function askLiveFiles<Operation extends LiveFilesQuestion["operation"]>(
  context: Context,
  call: WaitingCall,
  copy: LiveCopyOf,
  question: Extract<LiveFilesQuestion, { readonly operation: Operation }>,
): Promise<LiveFilesAnswers[Operation]>;
export async function askLiveFiles(
  context: Context,
  call: WaitingCall,
  copy: LiveCopyOf,
  question: LiveFilesQuestion,
): Promise<LiveFilesAnswers[keyof LiveFilesAnswers]> {
  const asked = await ask(context, copy, question);
  const answer = await waitForAnswer(context, call, copy.scope, asked, {
    tooLong: "the live copy has not answered; try again, or read source=current",
  });
  if (answer.status === "failed") throw failureOf(answer);
  const { result, data } = answer;
  if (question.operation === "stat") return parsed(z.object({ entry: workspaceEntry }), result);
  if (question.operation === "read") {
    const { entry } = parsed(z.object({ entry: workspaceEntry }), result);
    return { entry, data: data ?? Buffer.alloc(0) };
  }
  const list = z.object({ entries: z.array(workspaceEntry), next_after: z.string().optional() });
  const { entries, next_after: nextAfter } = parsed(list, result);
  return { entries, nextAfter };
}

/** The bytes from `start` on, at most `length`: in as many questions as it takes. Ends early when the file got shorter. */
export async function* readLiveFile(
  context: Context,
  call: WaitingCall,
  copy: LiveCopyOf,
  { path, start, length }: { readonly path: string; readonly start: number; readonly length: number },
): AsyncGenerator<Buffer> {
  let at = start;
  const end = start + length;
  while (at < end) {
    const limit = Math.min(maxLiveReadBytes, end - at);
    const { data } = await askLiveFiles(context, call, copy, { operation: "read", path, start: at, limit });
    if (data.length === 0) return;
    yield data;
    at += data.length;
  }
}

async function ask(
  { db, bus }: Context,
  { scope, workspaceId, materializationId }: LiveCopyOf,
  question: LiveFilesQuestion,
): Promise<string> {
  const live = await getLiveMaterialization(db, scope, workspaceId);
  const isOther = materializationId !== undefined && live?.id !== materializationId;
  if (live === undefined || isOther || live.state !== "running") throw codedError("workspace_not_live");
  const wire = { kind: "files", limit: 1, ...question } as const;
  const asked = await askLive(db, scope, live.id, wire, maxWaitMs);
  if (asked === undefined) throw codedError("workspace_not_live");
  tellCommand(bus, asked);
  return asked.requestId;
}

/** The answer of a question that was asked; 503 when it takes too long. */
export async function waitForAnswer(
  context: Context,
  call: WaitingCall,
  scope: Scope,
  requestId: string,
  { tooLong }: { readonly tooLong: string },
): Promise<LiveAnswer> {
  return await waitFor(context, call, {
    topic: `workspace-request:${requestId}`,
    waitMs: maxWaitMs,
    attempt: async () => {
      const answer = await takeAnswer(context.db, scope, requestId);
      if (answer === undefined) throw new ApiError(503, tooLong);
      return answer.status === "pending" ? undefined : answer;
    },
    tooLong,
  });
}

/** What the worker said of a question it could not answer. */
export function failureOf({ result }: LiveAnswer): ApiError {
  const { code = "", message } = failure.safeParse(result).data ?? {
    message: "the live copy could not do it",
  };
  if (code === "workspace_not_live") return codedError("workspace_not_live");
  const status = statuses.get(code);
  return status === undefined ? codedError("workspace_live_failed", message) : new ApiError(status, message);
}

/** The guest is hostile, and the worker of another version perhaps: what it says is checked before it is passed on. */
function parsed<T>(schema: z.ZodType<T>, result: unknown): T {
  const { data } = schema.safeParse(result);
  if (data === undefined)
    throw codedError("workspace_live_failed", "the live copy's answer is not understood");
  return data;
}
