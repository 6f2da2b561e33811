/**
 * The streams of execs and ptys against a model that is two buffers, on a real database: random writes, repetitions,
 * appends and reads, two at once. After every step the invariants of ../src/workspace-commands/lifecycle.ts hold.
 */
import fc from "fast-check";
import { sql } from "kysely";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ActingScope,
  appendToMaterialization,
  claimMaterializations,
  closeStdin,
  createExec,
  createPty,
  type MaterializationRef,
  type OutputStream,
  pollWorkspaces,
  readChunks,
  requestMaterialization,
  startMaterialization,
  writePtyInput,
  writeStdin,
} from "../src/index.ts";
import {
  seedEnvironment,
  seedSession,
  seedTask,
  seedWorker,
  startTestDatabase,
  type TestDatabase,
} from "../test-support/index.ts";

/** What the model knows of one exec or pty. */
interface World {
  readonly kind: "exec" | "pty";
  readonly key: { readonly workspaceId: string; readonly id: string };
  readonly copy: MaterializationRef;
  input: Buffer;
  /** Each chunk that was written: its offset and its bytes. */
  readonly written: { readonly offset: number; readonly data: Buffer }[];
  inputClosed: boolean;
  output: Buffer;
  /** Where each chunk begins that was appended. */
  readonly starts: number[];
  /** Where the kept ones begin. */
  retained: number;
  number: number;
  /** The last append, to be repeated. */
  last: Parameters<typeof appendToMaterialization>[1] | undefined;
  over: boolean;
}

type Step = (world: World) => Promise<void>;
const keptBytes = 40;
let database: TestDatabase;
let scope: ActingScope;
let worker: string;
let workspace: () => Promise<string>;

beforeAll(async () => {
  database = await startTestDatabase({ maxConnections: 6 });
  const seeded = await seedEnvironment(database.db);
  scope = seeded.scope;
  worker = await seedWorker(database.db, seeded.workerGroupId);
  const task = await seedTask(database.db, scope);
  workspace = async () => (await seedSession(database.db, scope, task)).workspaceId;
});
afterAll(() => database.stop());

async function makeWorld(kind: World["kind"]): Promise<World> {
  const { db } = database;
  const workspaceId = await workspace();
  await requestMaterialization(db, scope, workspaceId);
  const [claimed] = await claimMaterializations(db, {
    workerInstanceId: worker,
    limit: 1,
    lostAfterMs: 60_000,
  });
  if (claimed === undefined) throw new Error("nothing to claim");
  const copy = { materializationId: claimed.id, workerInstanceId: worker, fencing: claimed.fencing };
  await startMaterialization(db, { ...copy, idleStopMs: 60_000 });
  const created =
    kind === "exec"
      ? await createExec(db, scope, workspaceId, { command: ["cat"] })
      : await createPty(db, scope, workspaceId, { cols: 80, rows: 24 });
  if (created === undefined || created === "stopping") throw new Error("nothing was made");
  const key = { workspaceId, id: created.row.id };
  const started =
    kind === "exec"
      ? ({ kind: "exec.started", number: 1, exec_id: key.id, pid: 1 } as const)
      : ({ kind: "pty.opened", number: 1, pty_id: key.id, pid: 1 } as const);
  await appendToMaterialization(db, { ...copy, items: [started] });
  const empty = {
    input: Buffer.alloc(0),
    written: [],
    inputClosed: false,
    output: Buffer.alloc(0),
    starts: [],
  };
  return { kind, key, copy, ...empty, retained: 0, number: 1, last: undefined, over: false };
}

const streamOf = ({ kind }: World): OutputStream => (kind === "exec" ? "stdout" : "output");
const sendInput = ({ kind, key }: World, offset: number, data: Buffer) =>
  (kind === "exec" ? writeStdin : writePtyInput)(database.db, scope, key, { offset, data });

/** Two writers at one offset: one is taken; where the stream does not stand, none is. */
function write(shift: number, texts: readonly string[]): Step {
  return async (world) => {
    const offset = Math.max(0, world.input.length + shift);
    const datas = texts.map((text) => Buffer.from(text));
    const results = await Promise.allSettled(datas.map((data) => sendInput(world, offset, data)));
    const isOpen = !world.over && !world.inputClosed;
    const before = world.written.find((chunk) => chunk.offset === offset);
    let taken = before;
    if (offset === world.input.length && isOpen) {
      const row = results.flatMap((result) =>
        result.status === "fulfilled" && result.value ? [result.value] : [],
      )[0];
      if (row === undefined) throw new Error("nobody's input was taken");
      taken = { offset, data: row.chunk.data };
      world.written.push(taken);
      world.input = Buffer.concat([world.input, taken.data]);
    }
    for (const [index, result] of results.entries()) {
      const isSame = taken !== undefined && datas[index]?.equals(taken.data) === true; // C3
      expect(result.status).toBe(isSame ? "fulfilled" : "rejected");
      if (result.status === "fulfilled")
        expect(result.value?.chunk).toMatchObject({
          offset_start: offset,
          offset_end: offset + (taken?.data.length ?? 0),
        });
    }
  };
}

const close: Step = async (world) => {
  if (world.kind !== "exec" || world.over) return;
  await Promise.all([1, 2].map(() => closeStdin(database.db, scope, world.key)));
  world.inputClosed = true;
};

/** New items, and the same once more at the same time (C4). */
function append(texts: readonly string[], shift: number): Step {
  return async (world) => {
    let offset = world.output.length + shift;
    if (offset < 0) return;
    const pieces = texts.map((piece) => {
      const data = Buffer.from(piece);
      offset += data.length;
      return { offset: offset - data.length, data };
    });
    const items = pieces.map(
      ({ offset: at, data }, index) =>
        ({
          kind: "output",
          number: world.number + index + 1,
          resource_id: world.key.id,
          stream: streamOf(world),
          offset: at,
          content_base64: data.toString("base64"),
          observed_at: "2026-01-01T00:00:00Z",
        }) as const,
    );
    const request = { ...world.copy, items, keptBytes };
    const results = await Promise.allSettled([1, 2].map(() => appendToMaterialization(database.db, request)));
    const after = world.over ? [] : continued(world.output.length, pieces);
    if (after === "gap") {
      expect(results.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
      return;
    }
    world.number += items.length;
    for (const result of results)
      expect(result).toMatchObject({ status: "fulfilled", value: { acknowledged: world.number } });
    world.last = request;
    for (const data of after) {
      world.starts.push(world.output.length);
      world.output = Buffer.concat([world.output, data]);
    }
    if (after.length > 0) trim(world);
  };
}

/** The pieces, when they go on where a stream stands at `cursor`. */
function continued(cursor: number, pieces: readonly { offset: number; data: Buffer }[]): Buffer[] | "gap" {
  const added: Buffer[] = [];
  let at = cursor;
  for (const { offset, data } of pieces) {
    if (offset !== at) return "gap";
    added.push(data);
    at += data.length;
  }
  return added;
}

/** C5 */
function trim(world: World): void {
  const keptFrom = world.output.length - keptBytes;
  const ends = (index: number) => world.starts[index + 1] ?? world.output.length;
  const first = world.starts.findIndex((_start, index) => ends(index) > keptFrom);
  world.retained = Math.max(world.retained, world.starts[first] ?? 0);
}

/** Long after it was acknowledged. */
const repeat: Step = async (world) => {
  if (world.last === undefined) return;
  expect(await appendToMaterialization(database.db, world.last)).toMatchObject({
    acknowledged: world.number,
  });
};

const end: Step = async (world) => {
  world.number += 1;
  const item =
    world.kind === "exec"
      ? ({
          kind: "exec.exited",
          number: world.number,
          exec_id: world.key.id,
          state: "exited",
          exit_code: 0,
        } as const)
      : ({ kind: "pty.closed", number: world.number, pty_id: world.key.id, state: "closed" } as const);
  await appendToMaterialization(database.db, { ...world.copy, items: [item] });
  world.over = true;
};

/** Page by page from a cursor, as clients do: every byte from there, each once. */
function read(position: number, limit: number, maxBytes: number): Step {
  return async (world) => {
    let cursor = world.retained + (position % (world.output.length - world.retained + 1));
    const begin = cursor;
    const pieces: Buffer[] = [];
    for (let pages = 0; ; pages += 1) {
      expect(pages).toBeLessThan(1000);
      const page = await readChunks(database.db, scope, world.key, {
        stream: streamOf(world),
        cursor,
        limit,
        maxBytes,
      });
      if (page === undefined) throw new Error("the exec is gone");
      expect(page.chunks.length).toBeLessThanOrEqual(limit);
      expect(page).toMatchObject({
        cursor: world.output.length,
        retained: world.retained,
        isOver: world.over,
      });
      for (const chunk of page.chunks) {
        expect(chunk.offset_end).toBeGreaterThan(cursor);
        expect(chunk.offset_start).toBeLessThanOrEqual(cursor);
        pieces.push(chunk.data.subarray(cursor - chunk.offset_start));
        cursor = chunk.offset_end;
      }
      if (page.chunks.length === 0) expect(page.isFull).toBe(false);
      if (!page.isFull) break;
    }
    expect(Buffer.concat(pieces).equals(world.output.subarray(begin))).toBe(true);
  };
}

interface Stored {
  readonly stream: string;
  readonly offset_start: number;
  readonly offset_end: number;
  readonly data: Buffer;
}

async function checkInvariants(world: World): Promise<void> {
  const { rows } =
    await sql<Stored>`select stream, offset_start, offset_end, data from workspace_stream_chunks
    where resource_id = ${world.key.id} order by stream, offset_start`.execute(database.db);
  for (const name of new Set(rows.map(({ stream }) => stream))) {
    const chunks = rows.filter(({ stream }) => stream === name);
    const isInput = name === "stdin" || name === "input";
    expect(chunks[0]?.offset_start).toBe(isInput ? 0 : world.retained); // C5
    for (const [index, chunk] of chunks.entries()) {
      expect(chunk.data.length).toBe(chunk.offset_end - chunk.offset_start); // C2
      if (index > 0) expect(chunk.offset_start).toBe(chunks[index - 1]?.offset_end);
    }
    expect(chunks.at(-1)?.offset_end).toBe(isInput ? world.input.length : world.output.length);
  }
  const { materializationId, fencing } = world.copy;
  const { commands } = await pollWorkspaces(database.db, worker, [
    { materializationId, fencing, afterSeq: 0 },
  ]);
  const sent = commands.filter(
    ({ command }) => command.kind === "exec.stdin" || command.kind === "pty.input",
  );
  expect(Buffer.concat(sent.map(({ data }) => data ?? Buffer.alloc(0))).equals(world.input)).toBe(true);
}

const text = fc.string({ minLength: 1, maxLength: 12 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(fc.constantFrom(0, 0, 0, 1, -1, -3), fc.array(text, { minLength: 1, maxLength: 3 }))
      .map((args) => write(...args)),
  },
  {
    weight: 8,
    arbitrary: fc
      .tuple(fc.array(text, { minLength: 1, maxLength: 4 }), fc.constantFrom(0, 0, 0, 0, 1, -1))
      .map((args) => append(...args)),
  },
  { weight: 2, arbitrary: fc.constant(repeat) },
  {
    weight: 5,
    arbitrary: fc
      .tuple(fc.nat(200), fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 30 }))
      .map((args) => read(...args)),
  },
  { weight: 1, arbitrary: fc.constant(close) },
  { weight: 1, arbitrary: fc.constant(end) },
);

test("whatever is written, appended, repeated and read, each stream is one text", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("exec", "pty"),
      fc.array(step, { minLength: 5, maxLength: 25 }),
      async (kind, steps) => {
        const world = await makeWorld(kind);
        for (const run of steps) {
          await run(world);
          await checkInvariants(world);
        }
      },
    ),
    { numRuns: Number(process.env.HELMR_PROPERTY_RUNS ?? 25), endOnFailure: true },
  );
});
