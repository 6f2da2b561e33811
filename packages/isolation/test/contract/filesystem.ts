/** Root filesystem, mounts, and image layers captured from a guest's writes. */
import { lstat, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { type Bench, finish, guestSpec, node, run, shell, waitForOutput } from "../bench-guest.ts";

export function filesystemContract(bench: () => Bench): void {
  const folder = async (name: string) => {
    const created = path.join(bench().scratch, name);
    await mkdir(created, { recursive: true });
    return created;
  };

  describe("filesystem", () => {
    it("has the standard places", async () => {
      const script = `
        ls -d /proc/self /sys/kernel /dev/pts /dev/ptmx /dev/shm /dev/null /tmp /run > /dev/null && echo places
        cat /etc/hostname; hostname; cat /etc/hosts /etc/resolv.conf
        touch /tmp/a /run/a /dev/shm/a && echo writable`;
      const { stdout, stderr } = await run(bench(), shell(script));
      expect(stderr).toBe("");
      expect(stdout).toMatch(
        /^places\nhelmr-sandbox\nhelmr-sandbox\n127\.0\.0\.1\s+localhost helmr-sandbox\n/,
      );
      expect(stdout).toContain(`nameserver ${bench().isolation.gatewayAddress}\n`);
      expect(stdout).toMatch(/writable\n$/);
    });

    it("discards writes to the root and leaves the image as it was", async () => {
      const script = "echo changed > /etc/from-image; rm -r /etc/doomed; cat /etc/from-image; ls /etc/doomed";
      const first = await run(bench(), shell(script));
      expect(first.stdout).toBe("changed\n");
      const second = await run(bench(), shell("cat /etc/from-image /etc/doomed/file"));
      expect(second.stdout).toBe("image\nimage\n");
      expect(await readFile(path.join(bench().root, "etc/from-image"), "utf8")).toBe("image\n");
    });

    it("lets a guest replace the files Helmr puts into /etc", async () => {
      const { stdout } = await run(bench(), shell("echo x > /etc/n; mv /etc/n /etc/hosts; cat /etc/hosts"));
      expect(stdout).toBe("x\n");
    });

    it("mounts folders and files read-write and read-only, where the image has nothing", async () => {
      const source = await folder("mounts");
      await writeFile(path.join(source, "file"), "from host\n");
      const { stdout, stderr } = await run(
        bench(),
        shell(
          "cat /a/b/file; echo guest > /a/b/new; cat /single; echo x > /ro/file; echo x > /single; ls /tmpfs",
        ),
        {
          mounts: [
            { destination: "/a/b", source: { kind: "bind", path: source }, readOnly: false },
            { destination: "/ro", source: { kind: "bind", path: source }, readOnly: true },
            {
              destination: "/single",
              source: { kind: "bind", path: path.join(source, "file") },
              readOnly: true,
            },
            { destination: "/tmpfs", source: { kind: "tmpfs", sizeMib: 1 }, readOnly: false },
          ],
        },
      );
      expect(stdout).toBe("from host\nfrom host\n");
      expect(stderr.match(/Read-only file system/g)).toHaveLength(2);
      expect(await readFile(path.join(source, "new"), "utf8")).toBe("guest\n");
      await expect(lstat(path.join(bench().root, "a"))).rejects.toThrow(/ENOENT/);
    });

    it("shows at once what the host renames into a mounted folder", async () => {
      const workspace = await folder("workspace");
      const staged = await folder("staged");
      await mkdir(path.join(staged, "project"));
      await writeFile(path.join(staged, "project/file"), "late\n");
      const script = `
        process.stdout.write("ready\\n" + fs.readdirSync("/workspace").length + "\\n");
        process.stdin.once("data", () => {
          console.log(fs.readdirSync("/workspace"), fs.readFileSync("/workspace/project/file", "utf8"));
          fs.writeFileSync("/workspace/project/reply", "x");
          process.exit();
        });`;
      const guest = await bench().isolation.start(
        guestSpec(bench(), node(script), {
          mounts: [{ destination: "/workspace", source: { kind: "bind", path: workspace }, readOnly: false }],
        }),
      );
      await waitForOutput(guest, /ready\n0\n/);
      await rename(path.join(staged, "project"), path.join(workspace, "project"));
      guest.stream.write("go\n");
      expect((await finish(guest)).stdout).toBe("[ 'project' ] late\n\n");
      expect(await readFile(path.join(workspace, "project/reply"), "utf8")).toBe("x");
    });

    it("bounds a tmpfs", async () => {
      const { stderr, exit } = await run(bench(), shell("dd if=/dev/zero of=/small/big bs=1M count=8"), {
        mounts: [{ destination: "/small", source: { kind: "tmpfs", sizeMib: 2 }, readOnly: false }],
      });
      expect(stderr).toContain("No space left on device");
      expect(exit).toEqual({ reason: "exited", code: 1 });
    });

    it("captures what a build writes and deletes as an overlay layer, and nothing of Helmr's own", async () => {
      const upper = path.join(await folder("capture"), "layer");
      const script =
        "echo new > /etc/new; rm -r /etc/doomed; rm /etc/from-image; mkdir -p /opt/x; echo t > /tmp/t; cat /etc/hosts";
      const { exit, stderr } = await run(bench(), shell(script), { captureWritesTo: upper });
      expect({ exit, stderr }).toEqual({ exit: { reason: "exited", code: 0 }, stderr: "" });
      expect((await readdir(path.join(upper, "etc"))).sort()).toEqual(["doomed", "from-image", "new"]);
      expect(await readFile(path.join(upper, "etc/new"), "utf8")).toBe("new\n");
      for (const whiteout of ["etc/doomed", "etc/from-image"]) {
        const stat = await lstat(path.join(upper, whiteout));
        expect([stat.isCharacterDevice(), stat.rdev]).toEqual([true, 0]);
      }
      expect((await readdir(upper)).sort()).toEqual(["etc", "opt"]);
      expect(await readdir(path.dirname(upper))).toEqual(["layer"]);
    });

    it("keeps a guest inside its mounts", async () => {
      const source = await folder("jail");
      await writeFile(path.join(bench().scratch, "secret"), "host secret\n");
      const { stdout } = await run(
        bench(),
        shell(
          `ln -s ${bench().scratch}/secret /jail/link; cat /jail/link ../../jail/../secret ${bench().scratch}/secret`,
        ),
        { mounts: [{ destination: "/jail", source: { kind: "bind", path: source }, readOnly: false }] },
      );
      expect(stdout).toBe("");
      await rm(path.join(source, "link"));
    });
  });
}
