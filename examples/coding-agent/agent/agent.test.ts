/** The agent without Helmr: its tools, its HTTP client, and whole turns with the scripted model. */
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startModelServer } from "../model-server/start.ts";
import { keepEnds, runCommand } from "./command.ts";
import { Memory } from "./memory.ts";
import { createHttpModel, type Message } from "./model.ts";
import { limits } from "./settings.ts";
import { useTool } from "./tools.ts";
import { type Activity, takeTurn } from "./turn.ts";

const { signal } = new AbortController();
let workspace: string;
beforeEach(async () => {
  workspace = await mkdtemp(join(tmpdir(), "helmr-agent-test-"));
});
afterEach(() => rm(workspace, { recursive: true, force: true }));

const use = (name: string, input: unknown) => useTool(name, JSON.stringify(input), { workspace, signal });

describe("tools", () => {
  it("write, list and read files of the workspace", async () => {
    expect(await use("write_file", { path: "a/b.txt", content: "hé" })).toMatchObject({
      ok: true,
      summary: "wrote a/b.txt, 3 bytes",
    });
    expect((await use("list_files", {})).text).toBe("a/b.txt");
    expect((await use("read_file", { path: "a/b.txt" })).text).toBe("hé");
  });
  it.each([
    ["read_file", { path: "../x" }, "outside of the project"],
    ["write_file", { path: "/etc/x", content: "" }, "outside of the project"],
    ["read_file", { path: "link/hosts" }, "outside of the project"],
    ["write_file", { path: "link/new", content: "" }, "outside of the project"],
    ["write_file", { path: "a" }, "content must be text"],
    ["write_file", { path: "a", content: "x".repeat(limits.fileBytes + 1) }, "larger than"],
    ["read_file", { path: "missing" }, "ENOENT"],
    ["run_command", { argv: [] }, "argv must be a list"],
    ["run_command", { argv: ["no-such-program"] }, "ENOENT"],
    ["delete_everything", {}, "there is no tool"],
    ["list_files", 7, "must be an object"],
  ])("%s refuses %j", async (name, input, reason) => {
    await symlink("/etc", join(workspace, "link"));
    const result = await use(name, input);
    expect(result.ok).toBe(false);
    expect(result.text).toContain(reason);
  });
  it("arguments that are no JSON are the model's error, not the turn's", async () => {
    expect(await useTool("list_files", "{", { workspace, signal })).toMatchObject({ ok: false });
  });
});

describe("commands", () => {
  it("get nothing of the task's environment", async () => {
    process.env.MODEL_API_KEY = "planted";
    try {
      expect((await runCommand(["env"], { cwd: workspace, signal })).output).not.toContain("planted");
    } finally {
      delete process.env.MODEL_API_KEY;
    }
  });
  it("end with all that they started when their time is over", async () => {
    const command = ["sh", "-c", "echo begun; sleep 600 & wait"];
    const result = await runCommand(command, { cwd: workspace, signal, timeoutMs: 500 });
    expect(result).toMatchObject({ timedOut: true, exitCode: null, output: "begun\n" });
  });
  it("end with the run", async () => {
    const cancelled = new AbortController();
    const running = runCommand(["sleep", "600"], { cwd: workspace, signal: cancelled.signal });
    cancelled.abort(new Error("cancelled"));
    await expect(running).rejects.toThrow("cancelled");
  });
  it("show beginning and end of a long output", () => {
    expect(keepEnds(`a${"x".repeat(100)}z`, 10)).toBe("axxxx\n[... 92 characters left out ...]\nxxxxz");
  });
});

describe("the HTTP client", () => {
  let server: Server;
  let answers: [status: number, body: unknown][];
  let requests: { authorization: string | undefined; body: { model: string } }[];
  beforeEach(async () => {
    requests = [];
    server = createServer(async (request, response) => {
      let text = "";
      for await (const chunk of request) text += chunk;
      requests.push({ authorization: request.headers.authorization, body: JSON.parse(text) });
      const [status, body] = answers.shift() ?? [500, "no answer left"];
      response.writeHead(status, { location: "http://127.0.0.1:1/" }).end(JSON.stringify(body));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  afterEach(() => new Promise((resolve) => server.close(resolve)));
  const ask = () => {
    const { port } = server.address() as AddressInfo;
    const model = createHttpModel({
      baseUrl: `http://127.0.0.1:${port}/v1/`,
      model: "m",
      apiKey: "k",
      pauseMs: 1,
    });
    return model.answer([{ role: "user", content: "hello" }], [], signal);
  };
  const completion = { choices: [{ message: { role: "assistant", content: "hi", refusal: null } }] };

  it("sends model and key, and gives the message", async () => {
    answers = [[200, completion]];
    expect(await ask()).toEqual({ role: "assistant", content: "hi" });
    expect(requests).toMatchObject([{ authorization: "Bearer k", body: { model: "m" } }]);
  });
  it("tries again when the provider is busy or broken", async () => {
    answers = [
      [429, {}],
      [503, {}],
      [200, completion],
    ];
    expect((await ask()).content).toBe("hi");
  });
  it.each<[string, [number, unknown][], string, number]>([
    ["a refusal at once", [[401, { error: "bad key" }]], 'answers 401: {"error":"bad key"}', 1],
    ["a redirect never, which would carry the key away", Array(4).fill([307, {}]), "cannot be reached", 4],
    ["what is no completion", [[200, { choices: [] }]], "sent no chat completion", 1],
    ["too long an answer", Array(4).fill([200, "x".repeat(limits.modelAnswerBytes)]), "cannot be reached", 4],
    ["an outage after all tries", [], "answers 500", 4],
  ])("reports %s", async (_, script, message, count) => {
    answers = [...script];
    await expect(ask()).rejects.toThrow(message);
    expect(requests).toHaveLength(count);
  });
});

it("works through two instructions with the scripted model, as it does in a guest", async () => {
  await cp(join(import.meta.dirname, "..", "project"), workspace, { recursive: true });
  const server = await startModelServer();
  try {
    const said: Activity[] = [];
    const context = {
      model: createHttpModel({ baseUrl: server.baseUrl, model: "scripted" }),
      say: async (activity: Activity) => said.push(activity),
      workspace,
      signal,
    };
    const memory = await Memory.open(workspace);
    await memory.add(await takeTurn("Add a slugify function", memory.messages, context));
    await memory.add(await takeTurn("Make it handle umlauts", memory.messages, context));
    await memory.add(await takeTurn("Write a poem", memory.messages, context));
    expect(said.filter(({ type }) => type === "answer")).toEqual([
      { type: "answer", steps: 6, text: expect.stringContaining("All 2 tests pass.") },
      { type: "answer", steps: 5, text: expect.stringContaining("All 3 tests pass.") },
      { type: "answer", steps: 1, text: expect.stringContaining("I am a script") },
    ]);
    const commands = said.filter((activity) => activity.type === "tool" && activity.name === "run_command");
    expect(commands.map((activity) => activity.type === "tool" && activity.ok)).toEqual([true, false, true]);
    expect(await readFile(join(workspace, "src", "text.js"), "utf8")).toContain("normalize");
    expect((await Memory.open(workspace)).messages).toEqual(memory.messages);
  } finally {
    server.stop();
  }
});

it("remembers whole turns, and only the last of them", async () => {
  const memory = await Memory.open(workspace);
  const turn = (n: number): Message[] => [
    { role: "user", content: `${n}` },
    { role: "assistant", content: "done" },
  ];
  for (let n = 0; n < limits.rememberedTurns + 3; n += 1) await memory.add(turn(n));
  expect(memory.messages[0]).toEqual({ role: "user", content: "3" });
  expect(memory.messages).toHaveLength(2 * limits.rememberedTurns);
});

it("stops a model that never comes to an end", async () => {
  const call = {
    id: "c",
    type: "function",
    function: { name: "list_files", arguments: "{}" },
  } as const;
  const model = { answer: async () => ({ role: "assistant", content: null, tool_calls: [call] }) as const };
  await writeFile(join(workspace, "a"), "");
  const turn = await takeTurn("go", [], { model, say: async () => undefined, workspace, signal });
  expect(turn.at(-1)).toMatchObject({
    role: "assistant",
    content: expect.stringContaining(`${limits.steps} steps`),
  });
});
