/** Each invariant holds for a record as it should be, and says so when one thing in it is wrong. */
import { expect, test } from "vitest";
import { type EventFact, type Facts, noFacts, type RunFact, type WaitFact } from "../facts.ts";
import { checkAll, invariants } from "./index.ts";

const run = (change: Partial<RunFact> = {}): RunFact => ({
  id: "r1",
  session_id: "s1",
  session_status: "open",
  workspace_id: "w1",
  task_id: "steps",
  turn_index: 0,
  status: "succeeded",
  execution_status: "finished",
  attempt_number: 1,
  lease_id: null,
  queue_name: "few",
  concurrency_key: null,
  event_seq: 5,
  schedule_id: null,
  payload: '{"op":"op1"}',
  output: "null",
  failure_kind: null,
  failure_detail: null,
  ...change,
});

const line = (entry: object) =>
  `${JSON.stringify({ run: "r1", attempt: 1, boot: "b1", step: 1, ...entry })}\n`;

const event = (seq: number, kind: string, change: Partial<EventFact> = {}): EventFact => ({
  run_id: "r1",
  seq,
  kind,
  lease: null,
  attempt: 1,
  attributes: {},
  text: "",
  at: seq * 10_000,
  ...change,
});

const leased = (seq: number, lease: string, fencing: number) =>
  event(seq, "run_lease.leased", { lease, attributes: { fencing } });

const events = (): EventFact[] => [
  event(1, "run.created"),
  leased(2, "l1", 1),
  event(3, "run_lease.started", { lease: "l1" }),
  event(4, "log.stdout", { lease: "l1", text: line({}) }),
  event(5, "run.completed", { lease: "l1" }),
];

const wait = (change: Partial<WaitFact> = {}): WaitFact => ({
  id: "wait1",
  run_id: "r1",
  attempt_number: 1,
  number: 1,
  kind: "stream",
  status: "completed",
  stream_id: "in1",
  token_id: null,
  result: '{"id":"rec1","sequence":1}',
  due: false,
  ...change,
});

/** A run that said one thing. */
const plain = (): Facts => ({ ...noFacts(), runs: [run()], events: events() });

/** A run that heard one input. */
function heard(): Facts {
  const facts = plain();
  facts.seen.inputs.push({ sessionId: "s1", key: "k", n: 1, sequence: 1, recordId: "rec1" });
  const record = { stream_id: "in1", session_id: "s1", name: "answers", direction: "input" };
  return {
    ...facts,
    runs: [run({ task_id: "listens", output: "[1]" })],
    waits: [wait()],
    streams: [
      { id: "in1", session_id: "s1", name: "answers", direction: "input", sequence: 1, committed: 1 },
    ],
    records: [{ ...record, sequence: 1, id: "rec1", data: '{"n":1}' }],
  };
}

/** A token that one completed and another was refused. */
function completed(): Facts {
  const facts = plain();
  facts.seen.completions.push(
    { tokenId: "t1", value: "a", status: "completed" },
    { tokenId: "t1", value: "b", status: "refused" },
  );
  return {
    ...facts,
    tokens: [{ id: "t1", status: "completed", data: '"a"' }],
    waits: [wait({ kind: "token", token_id: "t1", stream_id: null, result: '"a"' })],
  };
}

/** A schedule that fired once. */
function fired(): Facts {
  const slot = "2026-01-01T00:01:00.000Z";
  return {
    ...plain(),
    now: Date.parse(slot),
    runs: [run({ schedule_id: "c1", payload: JSON.stringify({ timestamp: slot }) })],
    schedules: [
      {
        id: "c1",
        active: true,
        due_at: Date.parse(slot) + 60_000,
        last_fire_at: Date.parse(slot),
        lease_expires_at: null,
      },
    ],
  };
}

const violations = (facts: Facts) => checkAll(facts).map(({ number, text }) => `${number} ${text}`);

/** Only that invariant, with these words. */
function expectOnly(facts: Facts, number: string, words: RegExp): void {
  const found = violations(facts);
  expect(found).not.toEqual([]);
  for (const each of found) expect(each).toMatch(new RegExp(`^${number} `));
  expect(found.join("\n")).toMatch(words);
}

test("what is as it should be violates nothing", () => {
  for (const facts of [noFacts(), plain(), heard(), completed(), fired()])
    expect(violations(facts)).toEqual([]);
});

test("each has a number of its own, in order", () => {
  expect(invariants.map(({ number }) => number)).toEqual(invariants.map((_, index) => `F${index + 1}`));
});

const waiting = run({ status: "waiting", execution_status: "parked", event_seq: 4 });
const waitingFacts = (change: Partial<Facts>): Facts => ({
  ...plain(),
  runs: [waiting],
  events: events().slice(0, 4),
  ...change,
});

test("F1: a run that is queued or running when all is over", () => {
  const queued = run({ status: "queued", execution_status: "queued", event_seq: 4 });
  expectOnly(waitingFacts({ runs: [queued] }), "F1", /r1 .* is queued/);
});

test("F1: a run that waits for nothing, for what is there, or too long", () => {
  const pending = wait({ status: "pending", result: null, stream_id: null, kind: "timer" });
  expect(violations(waitingFacts({ waits: [pending] }))).toEqual([]);
  expectOnly(waitingFacts({ waits: [] }), "F1", /0 pending waits/);
  expectOnly(waitingFacts({ waits: [{ ...pending, due: true }] }), "F1", /overdue/);
  const token = { ...pending, kind: "token", token_id: "t1" };
  const tokens = [{ id: "t1", status: "completed", data: "1" }];
  expectOnly(waitingFacts({ waits: [token], tokens }), "F1", /token t1 is completed/);
  const onStream = { ...pending, kind: "stream", stream_id: "in1" };
  const { streams, records } = heard();
  const untaken = streams.map((stream) => ({ ...stream, committed: 0 }));
  expectOnly(
    waitingFacts({ waits: [onStream], streams: untaken, records }),
    "F1",
    /records that nobody took/,
  );
});

test("F1: a failure that is not the third loss of a worker", () => {
  const failed = run({ status: "failed", failure_kind: "guest_runtime_failed" });
  expectOnly({ ...plain(), runs: [failed] }, "F1", /guest_runtime_failed/);
  const lost = run({ status: "failed", failure_kind: "worker_lease_expired" });
  expect(violations({ ...plain(), runs: [lost] })).toEqual([]);
});

test("F2: an earlier lease writes on", () => {
  const late = [...events().slice(0, 3), leased(4, "l2", 2), event(5, "run.completed", { lease: "l1" })];
  expectOnly({ ...plain(), events: late }, "F2", /of lease l1, while l2 counts/);
});

test("F2: a fencing number that does not grow, a lease that comes twice", () => {
  const same = [...events().slice(0, 3), leased(4, "l2", 1), event(5, "run.completed", { lease: "l2" })];
  expectOnly({ ...plain(), events: same }, "F2", /fencing 1 after 1/);
  const again = [
    ...events().slice(0, 2),
    leased(3, "l2", 2),
    leased(4, "l1", 3),
    event(5, "run.completed", { lease: "l1" }),
  ];
  expectOnly({ ...plain(), events: again }, "F2", /lease l1 was given twice/);
});

test("F2: two guests under one lease, or of one attempt", () => {
  const text = line({}) + line({ boot: "b2", step: 2 });
  const two = events().map((each) => (each.seq === 4 ? { ...each, text } : each));
  expectOnly({ ...plain(), events: two }, "F2", /2 guests wrote under lease l1/);
});

test("F2: an attempt writes after the next one has begun", () => {
  const record = { stream_id: "out1", session_id: "s1", name: "ledger", direction: "output" };
  const records = [1, 2, 1].map((attempt, index) => ({
    ...record,
    sequence: index + 1,
    id: `rec${index}`,
    data: line({ attempt }),
  }));
  const streams = [
    { id: "out1", session_id: "s1", name: "ledger", direction: "output", sequence: 3, committed: 0 },
  ];
  expectOnly({ ...plain(), records, streams }, "F2", /attempt 1 of run r1 wrote after a later one/);
});

test("F3: a gap, a double, an end that is not the last, and two ends", () => {
  const changed = (change: (list: EventFact[]) => EventFact[]) => ({ ...plain(), events: change(events()) });
  expectOnly(
    changed((list) => list.filter(({ seq }) => seq !== 3)),
    "F3",
    /event 3 has number 4/,
  );
  expectOnly(
    changed((list) => [...list.slice(0, 3), event(3, "note"), ...list.slice(3)]),
    "F3",
    /event 4 has number 3/,
  );
  const more = { ...plain(), runs: [run({ event_seq: 6 })] };
  expectOnly({ ...more, events: [...events(), event(6, "note")] }, "F3", /note comes after its end/);
  expectOnly({ ...more, events: [...events(), event(6, "run.failed")] }, "F3", /2 terminal events/);
});

test("F3: a line that is told twice", () => {
  const twice = events().map((each) => (each.seq === 4 ? { ...each, text: line({}) + line({}) } : each));
  expectOnly({ ...plain(), events: twice }, "F3", /line 1 follows line 1/);
});

test("F4: an acknowledged input that is gone, is stored twice, is taken by nobody or by two", () => {
  const facts = heard();
  const streams = facts.streams.map((stream) => ({ ...stream, sequence: 0 }));
  expectOnly({ ...facts, records: [], streams }, "F4", /input 1 \(rec1\) is gone/);
  const twice = facts.records.flatMap((record) => [record, { ...record, sequence: 2, id: "rec2" }]);
  const counted = facts.streams.map((stream) => ({ ...stream, sequence: 2 }));
  expectOnly({ ...facts, records: twice, streams: counted }, "F4", /input 1 is stored 2 times/);
  expectOnly(
    { ...facts, waits: [], runs: [run({ task_id: "listens", output: "[]" })] },
    "F4",
    /nobody took input 1/,
  );
  expectOnly({ ...facts, waits: [wait(), wait({ id: "wait2", number: 2 })] }, "F4", /taken by r1 and r1/);
});

test("F4: what a failed run left is the next one's, unless it took nothing", () => {
  const failed = run({ status: "failed", failure_kind: "worker_lease_expired", task_id: "listens" });
  const facts = heard();
  expect(violations({ ...facts, runs: [failed], waits: [] })).toEqual([]);
  facts.seen.inputs.push({ sessionId: "s1", key: "k2", n: 2, sequence: 2, recordId: "rec2" });
  const records = facts.records.flatMap((record) => [
    record,
    { ...record, sequence: 2, id: "rec2", data: '{"n":2}' },
  ]);
  const streams = facts.streams.map((stream) => ({ ...stream, sequence: 2 }));
  expectOnly({ ...facts, runs: [failed], records, streams }, "F4", /nobody took input 2/);
});

test("F4: a task that heard something else than was taken for it", () => {
  expectOnly({ ...heard(), runs: [run({ task_id: "listens", output: "[2]" })] }, "F4", /heard \[2\]/);
});

test("F4: what an attempt took that does not count may be taken again", () => {
  const facts = heard();
  const runs = [run({ task_id: "listens", output: "[1]", attempt_number: 2 })];
  const waits = [wait(), wait({ id: "wait2", attempt_number: 2 })];
  expect(violations({ ...facts, runs, waits })).toEqual([]);
});

test("F5: two who completed it, another's data, a wait that got something else", () => {
  const two = completed();
  two.seen.completions.push({ tokenId: "t1", value: "a", status: "completed" });
  expectOnly(two, "F5", /completed twice/);
  const both = completed();
  both.seen.completions.push({ tokenId: "t1", value: "c", status: "completed" });
  expectOnly(both, "F5", /"c" was completed/);
  expectOnly(
    { ...completed(), waits: [wait({ kind: "token", token_id: "t1", result: '"b"' })] },
    "F5",
    /got "b"/,
  );
  expectOnly({ ...completed(), tokens: [], waits: [] }, "F5", /is gone/);
});

test("F6: a slot that fired twice, one that is long due, a deleted schedule that is there", () => {
  const facts = fired();
  const [first] = facts.runs;
  const again = run({
    id: "r2",
    schedule_id: "c1",
    payload: first?.payload ?? "",
    status: "cancelled",
    event_seq: 1,
  });
  const more = [...events(), event(1, "run.cancelled", { run_id: "r2" })];
  expectOnly({ ...facts, runs: [...facts.runs, again], events: more }, "F6", /fired 2 times/);
  expectOnly({ ...facts, now: facts.now + 600_000 }, "F6", /is due since/);
  facts.seen.schedules.push({ id: "c1", end: "deleted" });
  expectOnly(facts, "F6", /was deleted, and is there/);
});

test("F7: more leases than the limit, as seen or as recorded", () => {
  const seen = plain();
  seen.seen.samples.push({ lane: "few a", limit: 2, leased: 3 });
  expectOnly(seen, "F7", /lane few a: 3 runs/);
  const facts = plain();
  const second = events().map((each) => ({ ...each, run_id: "r2" }));
  const two = {
    ...facts,
    runs: [run(), run({ id: "r2", payload: '{"op":"op2"}' })],
    events: [...events(), ...second],
  };
  expect(violations({ ...two, limits: [{ queue: "few", limit: 2 }] })).toEqual([]);
  expectOnly({ ...two, limits: [{ queue: "few", limit: 1 }] }, "F7", /makes 2 of 1/);
});

test("F8: what is left on the machine, what nobody needs, what is missing", () => {
  expectOnly({ ...plain(), remains: ["mount /x"] }, "F8", /left behind: mount/);
  const objects = { referenced: ["a", "b"], stored: ["b", "c"] };
  expectOnly({ ...plain(), objects }, "F8", /1 objects that nothing refers to: c/);
  expectOnly({ ...plain(), objects }, "F8", /1 objects that are referred to and not stored: a/);
});

test("F9: a start that is gone, a key that made two sessions", () => {
  const gone = plain();
  gone.seen.starts.push({ operation: "op9", key: "op9", sessionId: "s9", runId: "r9" });
  expectOnly(gone, "F9", /start op9: run r9 is gone/);
  const facts = plain();
  const second = events().map((each) => ({ ...each, run_id: "r2" }));
  const runs = [run(), run({ id: "r2", session_id: "s2" })];
  expectOnly({ ...facts, runs, events: [...events(), ...second] }, "F9", /start op1 made sessions s1, s2/);
});

test("F10: a follower that missed an event or saw it twice, a reader that saw another record", () => {
  const followed = (cursors: number[]) => {
    const facts = plain();
    facts.seen.follows.push({ runId: "r1", cursors, complete: true });
    return facts;
  };
  expect(violations(followed([4, 5]))).toEqual([]);
  for (const cursors of [[4], [5], [4, 4, 5], [4, 5, 6], []])
    expectOnly(followed(cursors), "F10", /a follower saw/);
  const read = plain();
  read.seen.readings.push({ sessionId: "s1", records: [{ sequence: 1, id: "rec1", data: "1" }] });
  expectOnly(read, "F10", /record 1 is not what is stored/);
});

test("F11: a cancelled run that succeeded", () => {
  const facts = plain();
  facts.seen.cancels.push({ runId: "r1", wasTerminal: true });
  expect(violations(facts)).toEqual([]);
  facts.seen.cancels.push({ runId: "r1", wasTerminal: false });
  expectOnly(facts, "F11", /was cancelled, and is succeeded/);
});

test("F12: a process that ended, an answer that nothing explains", () => {
  expectOnly({ ...plain(), ownEnds: ["control-0 ended by itself with 1"] }, "F12", /control-0/);
  const facts = plain();
  facts.seen.problems.push("404");
  expectOnly(facts, "F12", /404/);
});

test("F13: a file that reads otherwise, a count that does not go on", () => {
  const facts = plain();
  const file = { workspaceId: "w1", versionId: "v1", path: "/f", content: "a" };
  facts.seen.files.push(file);
  expectOnly(facts, "F13", /not read back/);
  facts.seen.readBacks.push({ ...file, found: "b" });
  expectOnly(facts, "F13", /version v1 \/f: b/);
  const second = events().map((each) => ({ ...each, run_id: "r2" }));
  const counted = (...outputs: string[]) => ({
    ...plain(),
    runs: outputs.map((output, index) =>
      run({ id: `r${index + 1}`, task_id: "counts", output, payload: `{"op":"${index}"}` }),
    ),
    events: [...events(), ...second],
  });
  expect(violations(counted("1", "2"))).toEqual([]);
  expectOnly(counted("2", "2"), "F13", /counted 2 after 2/);
});
