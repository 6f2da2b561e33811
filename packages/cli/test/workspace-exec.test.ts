/** `helmr workspace exec` against a double of the server: bytes both ways, cut connections, signals, exit codes. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { describe, expect, it, vi } from "vitest";
import { helmr, helmrWhile } from "./support/helmr.ts";
import { exec, execId, WorkspaceDouble, workspaceId } from "./support/workspace-double.ts";

const words = ["workspace", "exec", workspaceId];
/** What `cat` does. */
const cat = {
  onInput: (bytes: Buffer, double: WorkspaceDouble) => double.write("stdout", bytes),
  onInputClosed: (double: WorkspaceDouble) => double.end({ state: "exited", exit_code: 0 }),
};

describe("in the foreground", () => {
  it("sends the command as it is given, and names the workspace by its external id", async () => {
    await using double = await WorkspaceDouble.start(cat);
    const options = ["--cwd", "/a b", "--var", "A=b=c", "-e", "B="];
    const result = await helmr(["workspace", "exec", "notebook-7", ...options, "--", "ls", "-l", "--", "x"], {
      url: double.url,
    });
    expect(result).toMatchObject({ exitCode: 0, out: "", err: "" });
    expect(double.lines[0]).toBe("GET /api/workspaces");
    expect(double.bodies[1]).toEqual({
      command: ["ls", "-l", "--", "x"],
      cwd: "/a b",
      env: { A: "b=c", B: "" },
      idempotency_key: expect.any(String),
    });
  });

  it("carries any bytes both ways, each once, through connections that break before and after the server has acted", async () => {
    let count = 0;
    const cuts = (line: string) => {
      count += 1;
      if (line.endsWith("/stdin")) return (["before", "after", undefined] as const)[count % 3];
      if (line.endsWith("/stdout")) return count < 12 ? 70_000 * count : undefined;
      return count < 4 ? "after" : undefined;
    };
    await using double = await WorkspaceDouble.start({ ...cat, cuts });
    const sent = randomBytes(3_000_000);
    const result = await helmr([...words, "--", "cat"], { url: double.url, input: sent });
    expect(result.err).toBe("");
    expect(result.exitCode).toBe(0);
    expect(double.all("stdin").equals(sent)).toBe(true);
    expect(result.stdout.equals(sent)).toBe(true);
    expect(double.lines.filter((line) => line.endsWith("/stdout")).length).toBeGreaterThan(1);
  });

  it("keeps stdout and stderr apart", async () => {
    await using double = await WorkspaceDouble.start({
      onInputClosed: (one) => {
        one.write("stdout", Buffer.from([0, 255, 13]));
        one.write("stderr", "warned\n");
        one.end({ state: "exited", exit_code: 3 });
      },
    });
    const result = await helmr([...words, "--", "x"], { url: double.url });
    expect(result.stdout).toEqual(Buffer.from([0, 255, 13]));
    expect(result.err).toBe("warned\n");
    expect(result.exitCode).toBe(3);
  });

  it.each([
    [{ state: "exited", exit_code: 42 }, 42, ""],
    [{ state: "terminated", signal: "SIGKILL" }, 137, ""],
    [{ state: "terminated", signal: "SIGINT" }, 130, ""],
    [{ state: "failed", error: { message: "no such program: x" } }, 125, "no such program: x"],
    [{ state: "lost" }, 125, "its worker is gone"],
  ])("ends as the command does: %j", async (end, exitCode, says) => {
    await using double = await WorkspaceDouble.start({ onInputClosed: (one) => one.end(end) });
    const result = await helmr([...words, "--", "x"], { url: double.url });
    expect(result.exitCode).toBe(exitCode);
    expect(result.err).toContain(says);
  });

  it("passes Ctrl-C on, kills with the second one, and leaves with the third", async () => {
    const killed: string[] = [];
    await using double = await WorkspaceDouble.start({ onKill: (signal) => killed.push(signal) });
    const result = await helmrWhile([...words, "--", "sleep"], { url: double.url }, async (child) => {
      await vi.waitUntil(() => double.lines.some((line) => line.endsWith("/stdout")), { timeout: 20_000 });
      for (let count = 1; count <= 3; count += 1) {
        child.kill("SIGINT");
        if (count < 3) await vi.waitUntil(() => killed.length === count, { timeout: 20_000 });
      }
    });
    expect(killed).toEqual(["SIGINT", "SIGKILL"]);
    expect(result.exitCode).toBe(130);
    expect(result.err).toContain(`helmr workspace exec kill ${workspaceId} ${execId}`);
  });

  it("ends with the command that Ctrl-C has ended", async () => {
    await using double = await WorkspaceDouble.start({
      onKill: (signal, one) => one.end({ state: "terminated", signal }),
    });
    const result = await helmrWhile([...words, "--", "sleep"], { url: double.url }, async (child) => {
      await vi.waitUntil(() => double.lines.some((line) => line.endsWith("/stdout")), { timeout: 20_000 });
      child.kill("SIGTERM");
    });
    expect(result.exitCode).toBe(143);
  });

  it("ends the command when nobody reads any more, as a local pipe does", async () => {
    const killed: string[] = [];
    await using double = await WorkspaceDouble.start({
      onInputClosed: (one) => {
        for (let count = 0; count < 20; count += 1) one.write("stdout", Buffer.alloc(100_000, "y"));
      },
      onKill: (signal) => killed.push(signal),
    });
    const result = await helmrWhile([...words, "--", "yes"], { url: double.url }, async (child) => {
      await once(child.stdout as NodeJS.ReadableStream, "readable");
      (child.stdout as NodeJS.ReadableStream & { destroy(): void }).destroy();
    });
    expect(killed).toEqual(["SIGTERM"]);
    expect(result.exitCode).toBe(141);
  });

  it("stops reading stdin when the command has ended", async () => {
    await using double = await WorkspaceDouble.start({
      onInput: (_, one) => one.end({ state: "exited", exit_code: 0 }),
    });
    const result = await helmr([...words, "--", "true"], { url: double.url, input: Buffer.alloc(5_000_000) });
    expect(result).toMatchObject({ exitCode: 0, err: "" });
  });

  it("--json prints the record instead of the output, --no-stdin closes stdin at once", async () => {
    await using double = await WorkspaceDouble.start({
      onInputClosed: (one) => {
        one.write("stdout", "hidden");
        one.end({ state: "exited", exit_code: 1 });
      },
    });
    const result = await helmr([...words, "--json", "--no-stdin", "--", "x"], {
      url: double.url,
      input: "in",
    });
    expect(JSON.parse(result.out)).toEqual({
      exec: exec({ state: "exited", exit_code: 1, stdout_cursor: 6 }),
    });
    expect(result.exitCode).toBe(1);
    expect(double.lines).not.toContain(`POST /execs/${execId}/stdin`);
  });

  it("does not repeat what the server refuses", async () => {
    await using double = await WorkspaceDouble.start({ cuts: () => undefined });
    const result = await helmr(["workspace", "exec", workspaceId], { url: double.url });
    expect(result.exitCode).toBe(2);
    expect(result.err).toContain("put it after --");
    expect(double.lines).toEqual([]);
    for (const bad of [
      ["--var", "x", "--", "x"],
      ["--nope", "--", "x"],
    ])
      expect((await helmr([...words, ...bad], { url: double.url })).exitCode).toBe(2);
  });
});

describe("on its own", () => {
  it("--detach prints the id of a command that has ended before its stdin could be closed", async () => {
    await using double = await WorkspaceDouble.start();
    double.end({ state: "exited", exit_code: 0 });
    const result = await helmr([...words, "--detach", "--", "true"], { url: double.url });
    expect(result).toMatchObject({ exitCode: 0, out: `${execId}\n` });
  });

  it("--detach prints the id, and closes stdin", async () => {
    await using double = await WorkspaceDouble.start({});
    const result = await helmr([...words, "--detach", "--", "x"], { url: double.url, input: "in" });
    expect(result).toMatchObject({ exitCode: 0, out: `${execId}\n` });
    expect(double.bodies[0]).toMatchObject({ detached: true });
    expect(double.lines).toEqual(["POST /execs", `POST /execs/${execId}/stdin/close`]);
  });

  it("get, kill and logs", async () => {
    const killed: string[] = [];
    await using double = await WorkspaceDouble.start({ onKill: (signal) => killed.push(signal) });
    const of = (name: string, ...more: string[]) =>
      helmr(["workspace", "exec", name, workspaceId, execId, ...more], { url: double.url });
    expect((await of("get")).out).toContain("state\trunning\n");
    expect(JSON.parse((await of("get", "--json")).out)).toEqual({ exec: exec() });
    await of("kill");
    await of("kill", "--signal", "sigusr1");
    expect(killed).toEqual(["SIGTERM", "SIGUSR1"]);
    expect((await of("kill", "--signal", "NOPE")).exitCode).toBe(2);
    double.write("stdout", Buffer.from([1, 0, 2]));
    double.write("stderr", "e");
    const following = of("logs", "--follow");
    await vi.waitUntil(() => double.lines.some((line) => line.endsWith("/stderr")), { timeout: 20_000 });
    double.write("stdout", "late");
    double.end({ state: "exited", exit_code: 9 });
    const followed = await following;
    expect(followed.stdout).toEqual(Buffer.from([1, 0, 2, ...Buffer.from("late")]));
    expect(followed).toMatchObject({ exitCode: 0, err: "e" });
  });

  it("attach goes on from now, or from the start, with signals and exit code", async () => {
    await using double = await WorkspaceDouble.start({
      onInput: (bytes, one) => {
        one.write("stdout", bytes);
        one.end({ state: "exited", exit_code: 5 });
      },
    });
    double.write("stdout", "before ");
    double.written.set("stdin", Buffer.from("typed before"));
    const attach = ["workspace", "exec", "attach", workspaceId, execId];
    const now = await helmr(attach, { url: double.url, input: "now" });
    expect(now).toMatchObject({ exitCode: 5, out: "now" });
    expect(double.all("stdin").toString()).toBe("typed beforenow");
    const all = await helmr([...attach, "--from-start", "--no-stdin"], { url: double.url });
    expect(all).toMatchObject({ exitCode: 5, out: "before now" });
  });
});
