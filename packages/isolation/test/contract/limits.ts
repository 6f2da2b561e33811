/** A guest that takes all it can get: bounded, told apart, and no harm to the host. */
import { execa } from "execa";
import { describe, expect, it } from "vitest";
import { type Bench, finish, guestSpec, node, run, shell, waitForOutput } from "../bench-guest.ts";

export function limitsContract(bench: () => Bench): void {
  describe("limits", () => {
    it("bounds writes to the root filesystem with ENOSPC", async () => {
      const script = `
        const fd = fs.openSync("/big", "w"); let mib = 0;
        try { for (; mib < 4096; mib++) fs.writeSync(fd, Buffer.alloc(1 << 20)); }
        catch (error) { console.log(error.code, mib); }`;
      const { stdout } = await run(bench(), node(script), {
        resources: { cpu: 1, memoryMib: 512, diskMib: 64 },
      });
      const [code, mib] = stdout.trim().split(" ");
      expect(code).toBe("ENOSPC");
      expect(Number(mib)).toBeLessThanOrEqual(64);
      expect(Number(mib)).toBeGreaterThan(32);
    });

    it("tells that memory was exhausted", async () => {
      const { limits } = await bench().isolation.capabilities();
      const script = "const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1));";
      const { exit } = await run(bench(), node(script), {
        resources: { cpu: 1, memoryMib: 192, diskMib: 64 },
      });
      if (limits.memory) expect(exit).toEqual({ reason: "out_of_memory" });
    });

    it("lets a guest outlive a child that exhausts its memory, and tells how many died", async () => {
      const { limits } = await bench().isolation.capabilities();
      const hog = "const all = []; for (;;) all.push(Buffer.alloc(16 << 20, 1));";
      const spec = guestSpec(bench(), shell('node -e "$HOG"; echo child $?; read line'), {
        env: { HOG: hog },
        resources: { cpu: 1, memoryMib: 192, diskMib: 64 },
      });
      if (!limits.memory) return;
      const guest = await bench().isolation.start(spec);
      expect(await guest.oomKills()).toBe(0);
      await waitForOutput(guest, /child 137/);
      expect(await guest.oomKills()).toBeGreaterThan(0);
      guest.stream.end("go on\n");
      expect((await finish(guest)).exit).toEqual({ reason: "exited", code: 0 });
    });

    it("bounds a fork bomb, for root and for an unprivileged user", async () => {
      const script = `
        const { spawn } = require("child_process"); let started = 0, refused = 0;
        for (let i = 0; i < 200; i++) {
          const child = spawn("/bin/sleep", ["60"], { stdio: "ignore" });
          child.on("error", () => refused++); child.on("spawn", () => started++);
        }
        setTimeout(() => { console.log(started, refused); process.exit(); }, 500);`;
      for (const uid of [0, 1000]) {
        const { stdout, exit } = await run(bench(), node(script), {
          user: { uid, gid: uid, additionalGids: [] },
          maxProcesses: 64,
        });
        const [started, refused] = stdout.trim().split(" ").map(Number);
        expect({ exit, all: (started ?? 0) + (refused ?? 0) }).toEqual({
          exit: { reason: "exited", code: 0 },
          all: 200,
        });
        expect(started).toBeLessThanOrEqual(64);
        expect(started).toBeGreaterThan(10);
      }
    });

    it("survives a shell's fork bomb and can still be destroyed", async () => {
      const spec = guestSpec(bench(), shell("echo up; bomb() { bomb | bomb & }; bomb; sleep 60"));
      const guest = await bench().isolation.start({ ...spec, maxProcesses: 64 });
      await waitForOutput(guest, /up/);
      await guest.destroy();
      expect((await guest.exited).reason).not.toBe("exited");
    });

    it("limits processor time to the quota", async () => {
      const { limits } = await bench().isolation.capabilities();
      const work = "for (let i = 0; i < 3e8; i++);";
      const onHost = await execa(process.execPath, ["-e", `${work} console.log(process.cpuUsage().user)`]);
      const guest = await bench().isolation.start(
        guestSpec(bench(), node(`console.log("begin"); ${work} console.log("end");`), {
          resources: { cpu: 0.1, memoryMib: 256, diskMib: 16 },
        }),
      );
      await waitForOutput(guest, /begin/);
      const begin = performance.now();
      await waitForOutput(guest, /end/);
      const tookUs = (performance.now() - begin) * 1000;
      await guest.exited;
      // A lower bound, which no load of the machine can break: a tenth of a processor takes ten times as long. Half of
      // that allows for the node start that the host's figure includes and the burst of the first period.
      if (limits.cpu) expect(tookUs).toBeGreaterThan((Number(onHost.stdout) / 0.1) * 0.5);
    });

    it("costs nothing while paused and goes on afterwards", async () => {
      const guest = await bench().isolation.start(
        guestSpec(
          bench(),
          node("let n = 0; setInterval(() => n++, 1); process.stdin.on('data', () => console.log('n', n))"),
        ),
      );
      guest.stream.write("x");
      await waitForOutput(guest, /n \d+/);
      await guest.pause();
      guest.stream.write("x");
      await guest.resume();
      await waitForOutput(guest, /n \d+/);
      await guest.pause();
      await guest.destroy();
      expect((await guest.exited).reason).toBe("signalled");
    });

    it("ends the guest's output with the guest", async () => {
      const guest = await bench().isolation.start(guestSpec(bench(), shell("sleep 100 & exec sleep 200")));
      const outcome = finish(guest);
      await guest.destroy();
      expect((await outcome).stdout).toBe("");
    });
  });
}
