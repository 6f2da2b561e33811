/** Commands and terminals in workspaces (contract 7.3-7.6). */
import { ApiError, codedError, maxInputBytes } from "@helmr/api";
import {
  type Changed,
  type CommandKey,
  type Created,
  closePty,
  closeStdin,
  createExec,
  createPty,
  type ExecRow,
  getExec,
  getPty,
  killExec,
  listExecs,
  listPtys,
  type OutputStream,
  type PtyRow,
  readChunks,
  resizePty,
  type WrittenInput,
  writePtyInput,
  writeStdin,
} from "@helmr/store";
import type { Context } from "../context.ts";
import { tellCommand, tellExecs, tellRequested } from "../hints.ts";
import type { Call, Handlers } from "../http/handlers.ts";
import { wantsStream } from "../http/stream-hub.ts";
import { presentChunk, presentExec, presentPty } from "../present/workspace-command.ts";
import { followOutput } from "../workspaces/follow.ts";
import { afterStop } from "../workspaces/wait.ts";
import { found } from "./found.ts";

const defaultListLimit = 50;
const defaultChunkLimit = 100;
/** Of one answer; the client reads on from the last chunk's end. */
const maxListBytes = 8 * 1024 * 1024;
const defaultSize = { cols: 80, rows: 24 } as const;
const defaultSignal = "SIGTERM";

type CommandHandlers = Pick<
  Handlers,
  | "createExec"
  | "listExecs"
  | "getExec"
  | "writeExecStdin"
  | "closeExecStdin"
  | "killExec"
  | "readExecStdout"
  | "readExecStderr"
  | "createPty"
  | "listPtys"
  | "getPty"
  | "writePtyInput"
  | "readPtyOutput"
  | "resizePty"
  | "closePty"
>;

export function workspaceCommandHandlers(context: Context): CommandHandlers {
  return { ...execHandlers(context), ...ptyHandlers(context) };
}

function execHandlers(context: Context) {
  const { db } = context;
  const exec = (changed: Changed<ExecRow> | undefined) => {
    const { row, target } = found(changed, "exec");
    tellCommand(context.bus, target);
    tellExecs(context.bus, [row.id], []);
    return { status: 200, body: { exec: presentExec(row) } } as const;
  };
  return {
    createExec: async (call) => {
      const { scope, params, body } = call;
      const { command, cwd, env, detached, idempotency_key: idempotencyKey } = body;
      const created = await afterStop(context, call, params.workspaceID, async () =>
        found(
          await createExec(db, scope, params.workspaceID, { command, cwd, env, detached, idempotencyKey }),
          "workspace",
        ),
      );
      const body_ = { exec: presentExec(created.row) };
      return tellCreated(context, created)
        ? { status: 200, body: { ...body_, is_cached: true } }
        : { status: 201, body: body_ };
    },
    listExecs: async ({ scope, params, query }) => {
      const filter = { state: query.state, limit: query.limit ?? defaultListLimit };
      const rows = found(await listExecs(db, scope, params.workspaceID, filter), "workspace");
      return { status: 200, body: { execs: rows.map(presentExec) } };
    },
    getExec: async ({ scope, params }) => {
      const row = found(await getExec(db, scope, execKey(params)), "exec");
      return { status: 200, body: { exec: presentExec(row) } };
    },
    writeExecStdin: async ({ scope, params, body }) =>
      written(context, await writeStdin(db, scope, execKey(params), inputOf(body)), "exec"),
    closeExecStdin: async ({ scope, params }) => exec(await closeStdin(db, scope, execKey(params))),
    killExec: async ({ scope, params, body }) =>
      exec(await killExec(db, scope, execKey(params), body.signal ?? defaultSignal)),
    readExecStdout: (call) => readOutput(context, call, execKey(call.params), "stdout"),
    readExecStderr: (call) => readOutput(context, call, execKey(call.params), "stderr"),
  } satisfies Partial<CommandHandlers>;
}

function ptyHandlers(context: Context) {
  const { db } = context;
  const pty = (changed: Changed<PtyRow> | undefined) => {
    const { row, target } = found(changed, "pty");
    tellCommand(context.bus, target);
    tellExecs(context.bus, [], [row.id]);
    return { status: 200, body: { pty: presentPty(row) } } as const;
  };
  return {
    createPty: async (call) => {
      const { scope, params, body } = call;
      const input = {
        cwd: body.cwd,
        cols: sizeOf(body.cols, defaultSize.cols),
        rows: sizeOf(body.rows, defaultSize.rows),
        idempotencyKey: body.idempotency_key,
      };
      const created = await afterStop(context, call, params.workspaceID, async () =>
        found(await createPty(db, scope, params.workspaceID, input), "workspace"),
      );
      const answer = { pty: presentPty(created.row) };
      return tellCreated(context, created)
        ? { status: 200, body: { ...answer, is_cached: true } }
        : { status: 201, body: answer };
    },
    listPtys: async ({ scope, params, query }) => {
      const filter = { state: query.state, limit: query.limit ?? defaultListLimit };
      const rows = found(await listPtys(db, scope, params.workspaceID, filter), "workspace");
      return { status: 200, body: { ptys: rows.map(presentPty) } };
    },
    getPty: async ({ scope, params }) => {
      const row = found(await getPty(db, scope, ptyKey(params)), "pty");
      return { status: 200, body: { pty: presentPty(row) } };
    },
    writePtyInput: async ({ scope, params, body }) =>
      written(context, await writePtyInput(db, scope, ptyKey(params), inputOf(body)), "pty"),
    readPtyOutput: (call) => readOutput(context, call, ptyKey(call.params), "output"),
    resizePty: async ({ scope, params, body }) => pty(await resizePty(db, scope, ptyKey(params), body)),
    closePty: async ({ scope, params }) => pty(await closePty(db, scope, ptyKey(params))),
  } satisfies Partial<CommandHandlers>;
}

/** Whether it was there already. */
function tellCreated<Row>({ bus }: Context, created: Created<Row>): boolean {
  if (!created.cached) tellRequested(bus, created.requested);
  return created.cached;
}

function written({ bus }: Context, input: WrittenInput | undefined, what: string) {
  const { chunk, target } = found(input, what);
  tellCommand(bus, target);
  return { status: 200, body: presentChunk(chunk) } as const;
}

/** Contract 7.5. */
function inputOf(body: { readonly offset: number; readonly data: string }): { offset: number; data: Buffer } {
  const data = Buffer.from(body.data, "base64");
  if (data.length > maxInputBytes)
    throw new ApiError(413, "data: at most 1 MiB at a time; write the rest after it");
  if (data.length === 0) throw new ApiError(400, "data: must not be empty");
  return { offset: body.offset, data };
}

/** Contract 7.4. */
function sizeOf(given: number | undefined, otherwise: number): number {
  return given === undefined || given <= 0 ? otherwise : given;
}

type OutputCall = Pick<
  Call<{ access: { kind: "environment" } }>,
  "scope" | "request" | "reply" | "actor" | "stillAllowed"
> & {
  readonly query: {
    readonly cursor?: number | undefined;
    readonly limit?: number | undefined;
    readonly follow?: boolean | undefined;
  };
};

/** Contract 7.6. */
async function readOutput(context: Context, call: OutputCall, key: CommandKey, stream: OutputStream) {
  const { scope, query, request } = call;
  const what = stream === "output" ? "pty" : "exec";
  if (wantsStream(request, query.follow)) {
    found(await (stream === "output" ? getPty : getExec)(context.db, scope, key), what);
    return await context.streams.stream(call, followOutput(context, request, { scope, key, stream }, query));
  }
  const cursor = query.cursor ?? 0;
  const limit = query.limit ?? defaultChunkLimit;
  const read = { stream, cursor, limit, maxBytes: maxListBytes };
  const page = found(await readChunks(context.db, scope, key, read), what);
  if (cursor < page.retained) throw codedError("workspace_stream_cursor_expired");
  return { status: 200, body: { chunks: page.chunks.map(presentChunk) } } as const;
}

const execKey = (params: { readonly workspaceID: string; readonly execID: string }): CommandKey => ({
  workspaceId: params.workspaceID,
  id: params.execID,
});
const ptyKey = (params: { readonly workspaceID: string; readonly ptyID: string }): CommandKey => ({
  workspaceId: params.workspaceID,
  id: params.ptyID,
});
