/** Workspaces from the command line: commands as if they ran here, terminals, files and versions, in real guests. */
import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, inject, it, vi } from "vitest";
import { OnTerminal } from "../packages/cli/test/support/terminal.ts";
import { deployBehaviours } from "./support/behaviours.ts";
import { helmr, helmrJson, repositoryRoot } from "./support/cli.ts";
import { stackClient, stackEnv } from "./support/client.ts";
import { startCuttingProxy } from "./support/cutting-proxy.ts";

const shim = join(repositoryRoot, "packages/cli/bin/helmr.mjs");
const name = `cli-${process.pid}-${Date.now()}`;
const mebibyte = 1024 * 1024;
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "helmr-e2e-workspace-"));
  await deployBehaviours();
  const created = await call("create", "open", "--external-id", name);
  if (created.exitCode !== 0) throw new Error(created.stderr);
}, 300_000);
afterAll(() => rm(dir, { recursive: true, force: true }));

const call = (...words: string[]) => helmr(["workspace", ...words], { env: stackEnv(), cwd: dir });
/** As `call`, with bytes in and out. */
const bytes = (words: readonly string[], input?: Uint8Array) =>
  execa(process.execPath, [shim, "workspace", ...words], {
    reject: false,
    encoding: "buffer",
    stripFinalNewline: false,
    cwd: dir,
    env: { NO_COLOR: "1", ...stackEnv() },
    timeout: 240_000,
    killSignal: "SIGKILL",
    ...(input === undefined ? { stdin: "ignore" as const } : { input }),
  });
const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

describe("exec", () => {
  it("carries 20 MiB of binary data in and out, byte for byte, as tars do", async () => {
    const source = join(dir, "source");
    await mkdir(join(source, "deep", "er"), { recursive: true });
    const big = randomBytes(20 * mebibyte);
    await writeFile(join(source, "deep", "big.bin"), big);
    await writeFile(join(source, "deep", "er", "run.sh"), "#!/bin/sh\necho ran\n");
    await chmod(join(source, "deep", "er", "run.sh"), 0o755);
    await symlink("deep/er/run.sh", join(source, "link"));
    const tar = await execa("tar", ["c", "."], { cwd: source, encoding: "buffer", maxBuffer: 64 * mebibyte });
    const into = await bytes(["exec", name, "--", "tar", "x"], tar.stdout);
    expect([into.exitCode, Buffer.from(into.stderr).toString()]).toEqual([0, ""]);

    const ran = await call("exec", name, "--", "./link");
    expect(ran).toMatchObject({ exitCode: 0, stdout: "ran" });
    const out = await bytes(["exec", name, "--", "tar", "c", "deep"]);
    expect(out.exitCode).toBe(0);
    const back = join(dir, "back");
    await mkdir(back);
    await execa("tar", ["x"], { cwd: back, input: out.stdout });
    expect(sha256(await readFile(join(back, "deep", "big.bin")))).toBe(sha256(big));
    expect((await stat(join(back, "deep", "er", "run.sh"))).mode & 0o777).toBe(0o755);
  });

  it("keeps stdout and stderr apart, and ends as the command does", async () => {
    const script = "printf 'out\\0'; printf err >&2; exit 42";
    const ended = await bytes(["exec", name, "--cwd", "/tmp", "--var", "A=b", "--", "sh", "-c", script]);
    expect(Buffer.from(ended.stdout).toString()).toBe("out\0");
    expect(Buffer.from(ended.stderr).toString()).toBe("err");
    expect(ended.exitCode).toBe(42);
    const where = await call(
      "exec",
      name,
      "--cwd",
      "/tmp",
      "--var",
      "A=b c",
      "--",
      "sh",
      "-c",
      'echo "$PWD $A"',
    );
    expect(where.stdout).toBe("/tmp b c");
    const killed = await call("exec", name, "--", "sh", "-c", "kill -9 $$");
    expect(killed.exitCode).toBe(137);
    const missing = await call("exec", name, "--", "no-such-program");
    expect(missing.exitCode).toBe(125);
    expect(missing.stderr).toContain("no-such-program");
  });

  it("passes Ctrl-C on to the command, which may take it", async () => {
    const script = 'trap "echo caught; exit 5" INT; echo ready; while :; do sleep 0.1; done';
    const child = bytes(["exec", name, "--", "sh", "-c", script]);
    child.stdout.once("data", () => child.kill("SIGINT"));
    const ended = await child;
    expect(Buffer.from(ended.stdout).toString()).toBe("ready\ncaught\n");
    expect(ended.exitCode).toBe(5);
  });

  it("leaves a detached command running; it is looked at, followed and killed; a second one is refused meanwhile", async () => {
    const started = await call("exec", name, "--detach", "--", "sh", "-c", "echo begun; exec sleep 600");
    const id = started.stdout;
    const refused = await call("exec", name, "--", "true");
    expect(refused.exitCode).toBe(8);
    expect(refused.stderr).toContain("workspace_writer_active");
    const following = call("exec", "logs", name, id, "--follow");
    const signalled = await call("exec", "kill", name, id, "--signal", "KILL");
    expect(signalled.exitCode).toBe(0);
    expect(await following).toMatchObject({ exitCode: 0 });
    const { exec } = await helmrJson<{ exec: { state: string; signal: string } }>(
      ["workspace", "exec", "get", name, id],
      { env: stackEnv() },
    );
    expect(exec).toMatchObject({ state: "terminated", signal: "SIGKILL" });
  });
});

/** Switches to the other screen and shows its size and each key, as editors do; `q` ends it. */
const fullScreen = `
process.stdin.setRawMode(true);
const draw = (what) => process.stdout.write("\\x1b[H" + what + " " + process.stdout.columns + "x" + process.stdout.rows + "|");
process.stdout.write("\\x1b[?1049h\\x1b[?25l");
process.stdout.on("resize", () => draw("resized"));
process.stdin.on("data", (data) => {
  draw("key " + data.toString("hex"));
  if (data.toString() !== "q") return;
  process.stdout.write("\\x1b[?25h\\x1b[?1049l");
  process.exit(0);
});
draw("drawn");
`;

describe("shell", () => {
  const open = (words: string[], url = inject("stackUrl")) =>
    OnTerminal.start(["workspace", ...words], {
      cols: 90,
      rows: 30,
      env: { HELMR_API_URL: url, HELMR_API_KEY: inject("stackApiKey") },
    });
  const ptyOf = (terminal: OnTerminal) => /terminal ([0-9a-f-]{36})/.exec(terminal.text)?.[1] ?? "";

  it("is a terminal: size, Ctrl-C, a full-screen program, its end", async () => {
    await using terminal = await open(["shell", name]);
    await terminal.shows("Ctrl-] leaves it");
    terminal.type("stty size; echo done-$((1+1))\r");
    await terminal.shows("done-2");
    expect(terminal.text).toMatch(/\b30 90\b/);
    terminal.pty.resize(101, 31);
    terminal.type("sleep 0.5; stty size; echo done-$((1+2))\r");
    await terminal.shows("done-3");
    expect(terminal.text).toMatch(/\b31 101\b/);
    terminal.type("sh -c 'echo up-$((1+1)); exec sleep 600'\r");
    await terminal.shows("up-2");
    const running = terminal.shown.length;
    terminal.type("\x03");
    await terminal.shows("# ", running);
    terminal.type("echo after-$((40+2))\r");
    await terminal.shows("after-42");

    const program = Buffer.from(fullScreen).toString("base64");
    terminal.type(`node -e "eval(Buffer.from('${program}','base64').toString())"\r`);
    await terminal.shows("drawn 101x31|");
    for (const [key, hex] of [
      ["a", "61"],
      ["\x03", "03"],
      ["\x1a", "1a"],
      ["\x1b[A", "1b5b41"],
    ] as const) {
      terminal.type(key);
      await terminal.shows(`key ${hex} 101x31|`);
    }
    terminal.pty.resize(60, 20);
    await terminal.shows("resized 60x20|");
    terminal.type("q");
    await terminal.shows("key 71 60x20|");
    terminal.type("exit\r");
    expect(await terminal.exit()).toBe(0);
  });

  it("is left, found again with what it had shown, and gives up nothing when connections are cut", async () => {
    await using proxy = await startCuttingProxy(inject("stackUrl"));
    let id: string;
    {
      await using first = await open(["shell", name], proxy.url);
      await first.shows("leaves it");
      first.type("marker=kept-$((6*7)); echo $marker; cat\r");
      await first.shows("kept-42");
      const start = first.shown.length;
      let typed = "";
      for (let line = 0; line < 10; line += 1) {
        const text = `line ${line} ${"x".repeat(line)}\r`;
        for (const half of [text.slice(0, 4), text.slice(4)]) {
          first.type(half);
          if (line % 3 === 1) proxy.cut();
        }
        typed += text;
        // Once as the terminal's echo, once from cat.
        const shown = text.replace("\r", "\r\n");
        await first.shows(shown + shown, start);
      }
      const lines = typed.split("\r").slice(0, -1);
      const expected = lines.map((line) => `${line}\r\n${line}\r\n`).join("");
      expect(
        first.shown
          .subarray(start)
          .toString()
          .replace(/^(cat\r\n)?/, ""),
      ).toBe(expected);
      id = ptyOf(first);
      first.type("\x1d");
      expect(await first.exit()).toBe(0);
    }
    const { ptys } = await helmrJson<{ ptys: { id: string; state: string }[] }>(
      ["workspace", "pty", "list", name, "--state", "open"],
      { env: stackEnv() },
    );
    expect(ptys.map((pty) => pty.id)).toEqual([id]);
    {
      await using again = await open(["pty", "connect", name, id], proxy.url);
      await again.shows("line 9 xxxxxxxxx");
      expect(again.text).toContain("kept-42");
      const before = again.shown.length;
      again.type("\x04");
      await again.shows("# ", before);
      again.type("echo still-$marker\r");
      await again.shows("still-kept-42");
      again.type("\x1d");
      expect(await again.exit()).toBe(0);
    }
    expect((await call("pty", "close", name, id)).exitCode).toBe(0);
    await vi.waitUntil(async () => (await call("pty", "get", name, id)).stdout.includes("state\tclosed"), {
      timeout: 60_000,
      interval: 200,
    });
    await using gone = await open(["pty", "connect", name, id]);
    expect(await gone.exit()).toBe(125);
  });
});

describe("files and versions", () => {
  const idOf = async (...words: string[]) =>
    (await helmrJson<{ version: { id: string } }>(["workspace", ...words], { env: stackEnv(), cwd: dir }))
      .version.id;

  it("are read, compared, restored and forked, and nothing needs to be up for it", async () => {
    const run = async (script: string) =>
      expect(await call("exec", name, "--", "sh", "-c", script)).toMatchObject({ exitCode: 0 });
    await run("mkdir -p notes; printf 'one\\ntwo\\n' > notes/a.txt");
    const first = await idOf("versions", "save", name, "--message", "first");
    await run("printf 'one\\n2\\n' > notes/a.txt; echo b > notes/b.txt");
    const live = await call("files", "cat", name, "notes/a.txt", "--live");
    expect(live).toMatchObject({ exitCode: 0, stdout: "one\n2" });
    expect((await call("files", "cat", name, "notes/a.txt")).stdout).toBe("one\ntwo");
    expect((await call("stop", name, "--wait")).exitCode).toBe(0);

    expect((await call("files", "ls", name, "notes")).stdout).toMatch(
      /^-rw-r--r--\t6\t\S+\ta\.txt\n-rw-r--r--\t2\t\S+\tb\.txt$/,
    );
    const changed = await call("files", "diff", name, "--base", first);
    expect(changed.stdout.split("\n")).toEqual(expect.arrayContaining(["M\tnotes/a.txt", "A\tnotes/b.txt"]));
    expect((await call("files", "diff", name, "notes/a.txt", "--base", first)).stdout).toContain("-two\n+2");

    expect((await call("restore", name, first)).exitCode).toBe(0);
    expect((await call("files", "cat", name, "notes/a.txt")).stdout).toBe("one\ntwo");
    const listed = await call("versions", "list", name);
    expect(listed.stdout.split("\n").length).toBeGreaterThanOrEqual(3);
    expect(listed.stdout).toContain("\tfirst");

    const forked = await call("fork", name, "--external-id", `${name}-fork`, "--version", first);
    expect(forked.exitCode).toBe(0);
    expect((await call("exec", `${name}-fork`, "--", "cat", "notes/a.txt")).stdout).toBe("one\ntwo");
    expect((await call("stop", `${name}-fork`, "--wait")).exitCode).toBe(0);
    expect((await call("delete", `${name}-fork`, "--yes")).exitCode).toBe(0);
  });

  it("are copied both ways, files and folders", async () => {
    const site = join(dir, "site");
    await mkdir(join(site, "css"), { recursive: true });
    const binary = randomBytes(300_000);
    await writeFile(join(site, "css", "a.css"), binary);
    await writeFile(join(site, "run.sh"), "#!/bin/sh\n");
    await chmod(join(site, "run.sh"), 0o755);
    await symlink("css/a.css", join(site, "link"));
    expect(await call("files", "cp", "site", `${name}:public`)).toMatchObject({ exitCode: 0 });
    expect(await call("files", "cp", "site/run.sh", `${name}:public/css`)).toMatchObject({ exitCode: 0 });

    expect(await call("files", "cp", `${name}:public`, "copied")).toMatchObject({ exitCode: 0 });
    expect((await readFile(join(dir, "copied", "css", "a.css"))).equals(binary)).toBe(true);
    expect((await stat(join(dir, "copied", "css", "run.sh"))).mode & 0o777).toBe(0o755);
    expect((await readFile(join(dir, "copied", "link"))).equals(binary)).toBe(true);
    expect(await call("files", "cp", `${name}:public/css/a.css`, "single")).toMatchObject({ exitCode: 0 });
    expect((await readFile(join(dir, "single"))).equals(binary)).toBe(true);

    const inside = await bytes(["exec", name, "--", "cat", "public/css/a.css"]);
    expect(Buffer.from(inside.stdout).equals(binary)).toBe(true);
    const { workspaces } = stackClient();
    const [found] = await workspaces.list({ externalId: name });
    const handle = workspaces.open(found?.id ?? "");
    expect(Buffer.from(await handle.files.read("public/css/a.css", { offset: 10, length: 5 }))).toEqual(
      binary.subarray(10, 15),
    );
    expect((await handle.files.list("public")).map((entry) => entry.name)).toEqual(["css", "link", "run.sh"]);
    expect((await handle.stop()).workspaceId).toBe(handle.id);
  });
});
