/**
 * Commands and terminals in a live workspace, from a program with the SDK to the guest and back: `true` from the call to its end
 * on the followed output, a key press to its echo, and how fast a command's stdout reaches the program.
 *
 * Program, control plane, PostgreSQL, worker and guest share the machine. Beside them stands what the host itself needs to run
 * `true`, which is the floor. Not measured: a network between them, bringing the workspace up, several commands at a time.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { HelmrClient } from "@helmr/sdk";
import { type BenchOptions, latencyRow, type Row, rateRow, sample, timed } from "./measure.ts";
import { type BenchStack, startBenchStack } from "./stack.ts";

const unmeasured = "not: a network, bringing the workspace up";
type Workspace = ReturnType<HelmrClient["workspaces"]["open"]>;

export async function benchWorkspaceCommands({ quick }: BenchOptions): Promise<Row[]> {
  await using bench = await startBenchStack({ guestsPerSandbox: 1 });
  const workspace = await liveWorkspace(bench);
  const runs = quick ? 30 : 200;
  const commands = await sample(() => timed(() => runTrue(workspace)), runs, 10);
  const onHost = await sample(() => timed(() => once(spawn("true"), "close")), runs, 10);
  return [
    latencyRow(
      "workspace.exec",
      commands,
      `a command (true) in a live workspace: the SDK's call to the end of its followed stdout; ${unmeasured}`,
    ),
    latencyRow("workspace.exec.host", onHost, "beside it: the same program started by node on the host"),
    await keyPresses(workspace, runs),
    await throughput(workspace, quick ? 2 : 5),
  ];
}

async function liveWorkspace({ client }: BenchStack): Promise<Workspace> {
  const { id } = await client.workspaces.create({ sandboxId: "small" });
  const workspace = client.workspaces.open(id);
  await runTrue(workspace);
  return workspace;
}

async function runTrue(workspace: Workspace): Promise<void> {
  const exec = await workspace.exec(["true"]);
  for await (const { data } of exec.stdout.stream()) throw new Error(`true wrote ${data.length} bytes`);
}

/** The terminal's own echo of a character, as its output stream gives it. */
async function keyPresses(workspace: Workspace, runs: number): Promise<Row> {
  const pty = await workspace.pty.create();
  await pty.waitUntilOpen();
  const output = pty.output.stream()[Symbol.asyncIterator]();
  let offset = 0;
  const type = async (text: string) => {
    await pty.input(text, { offset });
    offset += text.length;
  };
  const until = async (mark: string) => {
    for (let seen = ""; !seen.includes(mark); ) {
      const { value, done } = await output.next();
      if (done === true) throw new Error(`the terminal ended before it showed ${mark}`);
      seen = (seen + Buffer.from(value.data).toString("latin1")).slice(-4096);
    }
  };
  await type("printf 'rea%s\\n' dy; exec cat\n");
  await until("ready");
  const press = async () => {
    const echoed = until("k");
    const from = performance.now();
    await Promise.all([type("k"), echoed.then(() => undefined)]);
    return performance.now() - from;
  };
  const figures = await sample(press, runs, 10);
  await pty.close();
  for (;;) if ((await output.next()).done === true) break;
  return latencyRow(
    "workspace.pty.echo",
    figures,
    `a key press (input call) to its echo on the followed output; ${unmeasured}`,
  );
}

const throughputBytes = 64 * 1024 * 1024;

async function throughput(workspace: Workspace, runs: number): Promise<Row> {
  const rates: number[] = [];
  for (let n = 0; n < runs; n += 1) {
    const ms = await timed(async () => {
      const exec = await workspace.exec(["head", "-c", String(throughputBytes), "/dev/urandom"]);
      let bytes = 0;
      for await (const { data } of exec.stdout.stream()) bytes += data.length;
      if (bytes !== throughputBytes) throw new Error(`${bytes} bytes came of ${throughputBytes}`);
    });
    rates.push(throughputBytes / 1e6 / (ms / 1000));
  }
  return rateRow(
    "workspace.exec.stdout",
    rates,
    `MB per second of a command's stdout to the SDK; ${unmeasured}`,
  );
}
