/** What a guest's first process is given, and what is told about its end. */
import { randomBytes } from "node:crypto";
import { buffer } from "node:stream/consumers";
import { describe, expect, it } from "vitest";
import { type Bench, finish, guestSpec, node, run, shell } from "../bench-guest.ts";

export function processContract(bench: () => Bench): void {
  describe("process", () => {
    it("carries a mebibyte of random bytes both ways unchanged", async () => {
      const sent = randomBytes(1 << 20);
      const guest = await bench().isolation.start(guestSpec(bench(), ["/bin/cat"]));
      const received = buffer(guest.stream);
      guest.stream.end(sent);
      expect((await received).equals(sent)).toBe(true);
      expect(await guest.exited).toEqual({ reason: "exited", code: 0 });
    });

    it("keeps stderr apart from stdout", async () => {
      const outcome = await run(bench(), shell("echo out; echo err >&2"));
      expect(outcome).toMatchObject({ stdout: "out\n", stderr: "err\n" });
    });

    it.each([0, 3, 127, 255])("reports exit code %i", async (code) => {
      const { exit } = await run(bench(), shell(`exit ${code}`));
      expect(exit).toEqual({ reason: "exited", code });
    });

    it("reports the signal that ended it", async () => {
      const { exit } = await run(
        bench(),
        node("process.kill(process.pid, 'SIGKILL'); setTimeout(() => {}, 1e6)"),
      );
      expect(exit).toEqual({ reason: "signalled", signal: "SIGKILL" });
    });

    it("gives it its environment, folder and user, and nothing of the host's", async () => {
      process.env.HELMR_TEST_HOST_SECRET = "host";
      const { stdout } = await run(bench(), shell("env; pwd; id"), {
        env: { GREETING: "hello world" },
        cwd: "/home/author",
        user: { uid: 1000, gid: 1000, additionalGids: [44] },
      });
      expect(stdout).toContain("GREETING=hello world\n");
      expect(stdout).toContain("\n/home/author\n");
      expect(stdout).toMatch(/uid=1000\(author\) gid=1000\(author\) groups=1000\(author\),44/);
      expect(stdout).not.toContain("HELMR_TEST_HOST_SECRET");
    });

    it("shows it its own processes only", async () => {
      const { stdout } = await run(
        bench(),
        node("console.log(fs.readdirSync('/proc').filter((n) => +n).length)"),
      );
      expect(Number(stdout)).toBeLessThanOrEqual(2);
    });

    it("rejects a start whose program does not exist, naming it", async () => {
      const start = bench().isolation.start(guestSpec(bench(), ["/no/such/program"]));
      await expect(start).rejects.toThrow(/\/no\/such\/program/);
    });

    it("rejects an id in use, a bad id and an empty command", async () => {
      const spec = guestSpec(bench(), ["/bin/cat"]);
      const guest = await bench().isolation.start(spec);
      await expect(bench().isolation.start(spec)).rejects.toThrow(/running already/);
      guest.stream.end();
      await finish(guest);
      await expect(bench().isolation.start({ ...spec, id: "../x" })).rejects.toThrow(/id/);
      await expect(bench().isolation.start({ ...spec, argv: [] })).rejects.toThrow(/argv/);
    });
  });
}
