/** The examples as their READMEs show them: through CLI, client and the example's own web server. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { finished } from "./support/behaviours.ts";
import { helmr, repositoryRoot } from "./support/cli.ts";
import { stackClient, stackEnv } from "./support/client.ts";
import { type ExampleWeb, startExampleWeb } from "./support/example-web.ts";
import { outputWhere, parked } from "./support/streams.ts";

async function deployExample(name: string): Promise<void> {
  const deployed = await helmr(["deploy", join(repositoryRoot, "examples", name)], {
    env: stackEnv(),
    timeoutMs: 300_000,
  });
  expect(deployed.exitCode, `${deployed.stdout}\n${deployed.stderr}`).toBe(0);
}

describe("examples/approval", () => {
  let web: ExampleWeb;
  beforeAll(async () => {
    await deployExample("approval");
    web = await startExampleWeb("approval");
  }, 300_000);
  afterAll(() => web?.stop());

  const changes = ["faster start", "fixes"];
  const start = async (options: { timeout?: string } = {}) => {
    const payload = { version: "2.1.0", changes, page: web.url, ...options };
    const { run, session } = await stackClient().sessions.start("approval", payload);
    return { runId: run.id, sessionId: session.id };
  };
  /** Token and secret of the link that the task made. */
  const linkOf = async (sessionId: string): Promise<[id: string, secret: string]> => {
    const request = await outputWhere<{ link: string }>(sessionId, "approval-requests", (all) => all.at(-1));
    const url = new URL(request.link);
    expect(url.origin).toBe(web.url);
    const [id = "", secret = ""] = url.hash.slice(1).split(".");
    return [id, secret];
  };
  /** What the page's script does. */
  const complete = (id: string, secret: string, data: unknown) =>
    fetch(`${web.url}/api/v1/tokens/${id}/complete`, {
      method: "POST",
      headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
      body: JSON.stringify({ data }),
    });

  it("is released when somebody approves it in the page, long after its guest is gone", async () => {
    const { runId, sessionId } = await start();
    const [id, secret] = await linkOf(sessionId);
    const page = await fetch(web.url);
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining("page.js")]);
    const shown = await (await fetch(`${web.url}/requests/${id}`)).json();
    expect(shown).toMatchObject({ status: "pending", title: "Release 2.1.0" });
    expect(JSON.stringify(shown)).not.toContain(secret);

    await parked(runId);
    expect((await stackClient().runs.retrieve(runId)).status).toBe("waiting");
    expect((await complete(id, `${secret.slice(0, -1)}x`, { approved: true, by: "Eve" })).status).toBe(401);
    const decision = { approved: true, by: "Ada", comment: "go" };
    const answered = await complete(id, secret, decision);
    expect([answered.status, await answered.json()]).toMatchObject([200, { status: "completed" }]);
    expect(await (await complete(id, secret, { ...decision, approved: false })).json()).toMatchObject({
      code: "token_completion_conflict",
    });

    const result = await finished(runId, sessionId);
    expect(result.run.output).toMatchObject({
      outcome: "released",
      by: "Ada",
      comment: "go",
      sameProcess: true,
    });
    expect(result.stdout).not.toContain(secret);
  });

  it.each([
    ["a rejection", { approved: false, by: "Ada", comment: "no" }, { outcome: "rejected", by: "Ada" }],
    ["what is no decision", "yes!", { outcome: "rejected", by: null }],
  ])("is not released by %s", async (_, data, output) => {
    const { runId, sessionId } = await start();
    const [id, secret] = await linkOf(sessionId);
    expect((await complete(id, secret, data)).status).toBe(200);
    expect((await finished(runId, sessionId)).run.output).toMatchObject(output);
  });

  it("is not released when nobody answers, or the request is withdrawn", async () => {
    const [silent, withdrawn] = [await start({ timeout: "1s" }), await start()];
    const [id, secret] = await linkOf(withdrawn.sessionId);
    expect((await stackClient().tokens.cancel(id)).status).toBe("cancelled");
    expect(await (await complete(id, secret, {})).json()).toMatchObject({ code: "token_cancelled" });
    expect((await finished(silent.runId, silent.sessionId)).run.output).toMatchObject({ outcome: "expired" });
    expect((await finished(withdrawn.runId, withdrawn.sessionId)).run.output).toMatchObject({
      outcome: "withdrawn",
    });
  });

  it("has a page that gives nothing else", async () => {
    for (const path of [
      "/api/runs",
      "/server.ts",
      "/../tasks/approval.ts",
      "/requests/1",
      "/api/v1/tokens/1",
    ])
      expect((await fetch(`${web.url}${path}`)).status, path).toBe(404);
  });
});

describe("examples/coding-agent", () => {
  beforeAll(() => deployExample("coding-agent"), 300_000);

  interface Activity {
    readonly type: string;
    readonly text?: string;
    readonly summary?: string;
    readonly files?: readonly string[];
  }

  it("takes instructions, parks in between, and goes on in a next run after it has ended", async () => {
    const { run, session } = await stackClient().sessions.start("coding-agent-demo", {});
    const instructions = stackClient().sessions.open(session.id).input("instructions");
    const saidBy = (type: string, count: number) =>
      outputWhere<Activity>(
        session.id,
        "activity",
        (all) => all.filter((activity) => activity.type === type)[count - 1],
      );

    expect((await saidBy("ready", 1)).files).toEqual(["package.json", "src/text.js", "test/text.test.js"]);
    await instructions.send({ text: "Add a slugify function" });
    expect((await saidBy("answer", 1)).text).toContain("All 2 tests pass.");
    await parked(run.id);
    expect((await stackClient().runs.retrieve(run.id)).status).toBe("waiting");

    await instructions.send({ txet: "misspelled" });
    expect((await saidBy("problem", 1)).text).toContain("must be text");
    const data = JSON.stringify({ text: "Make slugify handle umlauts" });
    const sent = ["session", "input", "send", session.id, "instructions", "--data", data];
    expect((await helmr(sent, { env: stackEnv() })).exitCode).toBe(0);
    expect((await saidBy("answer", 2)).text).toContain("All 3 tests pass.");
    expect((await saidBy("output", 2)).text).toContain("not ok");
    await instructions.send({ end: true });
    const result = await finished(run.id, session.id);
    expect(result.run.output).toMatchObject({ turns: 2, reason: "told to" });

    expect((await instructions.send({ text: "And now?" })).continuationStatus).toBe("created");
    expect((await saidBy("ready", 2)).files).toContain("test/slugify.test.js");
    expect((await saidBy("answer", 3)).text).toContain("I am a script");
    await instructions.send({ end: true });
    const [, next] = await stackClient().sessions.open(session.id).runs();
    expect((await finished(String(next?.id), session.id)).run.output).toMatchObject({ turns: 1 });
  });
});

describe("examples/notebook", () => {
  const name = `notebook-${process.pid}-${Date.now()}`;
  let web: ExampleWeb;
  beforeAll(async () => {
    await deployExample("notebook");
    web = await startExampleWeb("notebook", { NOTEBOOK: name });
  }, 300_000);
  afterAll(() => web?.stop());

  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(`${web.url}${path}`, {
      method: "POST",
      headers: { "content-type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
  const get = async <T>(path: string) => (await (await fetch(`${web.url}${path}`)).json()) as T;
  interface Line {
    readonly stream?: string;
    readonly text?: string;
    readonly end?: string;
    readonly note?: string;
    readonly error?: string;
  }
  /** What the page's script does with a command. */
  const run = async (command: string) => {
    const text = await (await post("/run", { command })).text();
    const lines = text
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Line);
    const of = (stream: string) =>
      lines.flatMap((line) => (line.stream === stream ? [line.text] : [])).join("");
    return { stdout: of("stdout"), stderr: of("stderr"), last: lines.at(-1), lines };
  };
  interface Entry {
    readonly version: string;
    readonly message: string;
    readonly isCurrent: boolean;
  }

  it("runs commands, shows files and history, and goes back to an earlier version", async () => {
    expect(await (await fetch(web.url)).text()).toContain("page.js");
    expect(await get("/files?path=")).toEqual([]);
    expect((await run("mkdir -p lists && echo milk > lists/a.txt")).last).toEqual({ end: "exit 0" });
    const second = await run("echo eggs >> lists/a.txt; cat lists/a.txt; echo warned >&2; exit 3");
    expect(second).toMatchObject({ stdout: "milk\neggs\n", stderr: "warned\n", last: { end: "exit 3" } });

    expect(await get("/files?path=lists")).toMatchObject([
      { name: "a.txt", path: "lists/a.txt", sizeBytes: 10 },
    ]);
    expect(await get("/file?path=lists/a.txt")).toBe("milk\neggs\n");
    const history = await get<Entry[]>("/history");
    expect(history.map(({ message }) => message)).toEqual([
      "$ echo eggs >> lists/a.txt; cat lists/a.txt; echo warned >&2; exit 3",
      "$ mkdir -p lists && echo milk > lists/a.txt",
    ]);
    expect(history.map(({ isCurrent }) => isCurrent)).toEqual([true, false]);
    expect(await get(`/changes?version=${history[0]?.version}`)).toContainEqual({
      path: "lists/a.txt",
      change: "modified",
    });

    expect((await post("/restore", { version: history[1]?.version })).status).toBe(200);
    expect(await get("/file?path=lists/a.txt")).toBe("milk\n");
    expect((await run("cat lists/a.txt")).stdout).toBe("milk\n");
    expect((await get<Entry[]>("/history")).length).toBeGreaterThanOrEqual(3);
  });

  it("ends what writes too much, and what nobody waits for any more", async () => {
    const flood = await run("yes");
    expect(flood.lines).toContainEqual({ note: "it writes more than is shown here: killed" });
    // The shell is killed with what it runs, or lives long enough to say so.
    expect(flood.last?.end).toMatch(/^(terminated SIGKILL|exit 137)$/);
    const leaving = new AbortController();
    const left = await fetch(`${web.url}/run`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ command: "echo begun; exec sleep 600" }),
      signal: leaving.signal,
    });
    await left.body?.getReader().read();
    leaving.abort();
    // One command at a time: the next one shows that the other one is gone.
    await vi.waitUntil(async () => (await run("true")).last?.end === "exit 0", {
      timeout: 60_000,
      interval: 500,
    });
  });

  it("answers its own page only", async () => {
    const command = { command: "touch evil" };
    expect((await post("/run", command, { origin: "https://evil.example" })).status).toBe(403);
    expect((await post("/run", {})).status).toBe(400);
    expect((await post("/run", { command: "x".repeat(70_000) })).status).toBe(400);
    for (const path of ["/server.ts", "/../tasks/tally.ts", "/run", "/api/workspaces"])
      expect((await fetch(`${web.url}${path}`)).status, path).toBe(404);
    expect((await fetch(`${web.url}/file?path=../x`)).status).toBe(400);
    expect(await get("/files?path=")).not.toContainEqual(expect.objectContaining({ name: "evil" }));
  });

  it("is found again, and a task works in the same files", async () => {
    const [found] = await stackClient().workspaces.list({ externalId: name });
    const handle = stackClient().workspaces.open(String(found?.id));
    await vi.waitUntil(async () => (await handle.stop()).state === "no_active_materialization", {
      timeout: 60_000,
      interval: 200,
    });
    const started = await stackClient().sessions.start("tally", undefined, { workspaceId: handle.id });
    expect((await finished(started.run.id, started.session.id)).run.output).toEqual({ files: 1, lines: 1 });
  });
});
