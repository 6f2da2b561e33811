/** Saving and restoring: what a guest keeps, what is new, and that a failure costs nothing. Drivers that cannot skip it. */
import { once } from "node:events";
import { cp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { type CheckpointRecord, unmount } from "../../src/index.ts";
import { type Bench, waitForOutput } from "../bench-guest.ts";
import {
  ask,
  evaluatorSpec,
  newFolder,
  restore,
  Staging,
  save,
  startEvaluator,
} from "../checkpoint-bench.ts";

const publicHost = "registry.npmjs.org";

export function checkpointContract(bench: () => Bench): void {
  describe("checkpoint", () => {
    const staging = new Staging();
    let server: Server;
    let port = 0;
    const connections: Socket[] = [];

    beforeAll(async () => {
      server = createServer((socket) => {
        connections.push(socket);
        socket.on("error", () => undefined).write("hello");
      });
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      const address = server.address();
      if (address === null || typeof address === "string") throw new Error("no port");
      port = address.port;
    });

    afterAll(async () => {
      for (const socket of connections) socket.destroy();
      server.close();
      await staging.remove();
    });

    it("keeps process id, memory, tmpfs, root filesystem, host name and mounts", async () => {
      const saved = await save(
        bench(),
        staging,
        [
          "globalThis.kept = { big: Buffer.alloc(8 << 20, 7) }; process.pid",
          `const fs = require("fs"); fs.writeFileSync("/etc/from-image", "guest"); fs.rmSync("/etc/doomed", { recursive: true });
           for (const d of ["/tmp", "/run", "/dev/shm", "/secrets"]) fs.writeFileSync(d + "/file", d, { mode: 0o640 })`,
        ],
        { mounts: [{ destination: "/secrets", source: { kind: "tmpfs", sizeMib: 8 }, readOnly: false }] },
      );
      const guest = await restore(bench(), saved);
      expect(await ask(guest, "process.pid")).toBe(saved.answers[0]);
      expect(await ask(guest, "kept.big.every((byte) => byte === 7)")).toBe(true);
      expect(
        await ask(guest, `fs.readFileSync("/etc/from-image", "utf8") + fs.existsSync("/etc/doomed")`),
      ).toBe("guestfalse");
      const files = `["/tmp", "/run", "/dev/shm", "/secrets"].map((d) =>
        fs.readFileSync(d + "/file", "utf8") + (fs.statSync(d + "/file").mode & 0o777).toString(8))`;
      expect(await ask(guest, files)).toEqual(["/tmp640", "/run640", "/dev/shm640", "/secrets640"]);
      expect(await ask(guest, `require("os").hostname()`)).toBe("helmr-sandbox");
      expect(await ask(guest, `fs.readFileSync("/proc/mounts", "utf8").includes("/secrets")`)).toBe(true);
      expect(
        await ask(guest, `/^Pid:\\t(\\d+)$/m.exec(fs.readFileSync("/proc/self/status", "utf8"))[1]`),
      ).toBe(String(saved.answers[0]));
      expect(await ask(guest, `/^MemTotal:\\s+[1-9]/m.test(fs.readFileSync("/proc/meminfo", "utf8"))`)).toBe(
        true,
      );
      await guest.destroy();
      expect(await readFile(path.join(bench().root, "etc/from-image"), "utf8")).toBe("image\n");
      expect(await bench().leftovers()).toEqual([]);
    });

    it("goes on writing to files of a folder that lies elsewhere on the host", async () => {
      const before = await newFolder(bench(), "workspace-before");
      const after = path.join(bench().scratch, "workspace-after");
      const mount = (source: string) => [
        { destination: "/workspace", source: { kind: "bind" as const, path: source }, readOnly: false },
      ];
      const saved = await save(
        bench(),
        staging,
        [
          `globalThis.log = require("fs").openSync("/workspace/log", "a"); require("fs").writeSync(log, "one,")`,
          `process.chdir("/workspace")`,
        ],
        { mounts: mount(before) },
      );
      await execa("cp", ["-a", before, after]);
      const guest = await restore(bench(), saved, { mounts: mount(after) });
      await ask(guest, `require("fs").writeSync(log, "two"); require("fs").writeFileSync("new", "file")`);
      expect(await ask(guest, `require("fs").readdirSync(".").sort()`)).toEqual(["log", "new"]);
      await guest.destroy();
      expect(await readFile(path.join(after, "log"), "utf8")).toBe("one,two");
      expect(await readFile(path.join(before, "log"), "utf8")).toBe("one,");
      expect(await readdir(before)).toEqual(["log"]);
    });

    it("rejects cleanly when a folder lacks a file that is open", async () => {
      const mount = (source: string) => [
        { destination: "/workspace", source: { kind: "bind" as const, path: source }, readOnly: false },
      ];
      const saved = await save(
        bench(),
        staging,
        [`globalThis.log = require("fs").openSync("/workspace/log", "a")`],
        { mounts: mount(await newFolder(bench(), "workspace-whole")) },
      );
      const empty = mount(await newFolder(bench(), "workspace-empty"));
      await expect(restore(bench(), saved, { mounts: empty })).rejects.toThrow(/could not start/);
      expect(await bench().leftovers()).toEqual([]);
    });

    it("keeps what programs hold open besides files", async () => {
      const workspace = await newFolder(bench(), "workspace-held");
      const mounts = [
        { destination: "/workspace", source: { kind: "bind" as const, path: workspace }, readOnly: false },
      ];
      const saved = await save(
        bench(),
        staging,
        [
          `globalThis.fs = require("fs"); globalThis.net = require("net");
           globalThis.gone = fs.openSync("/workspace/gone", "w+"); fs.writeSync(gone, "kept"); fs.unlinkSync("/workspace/gone")`,
          `globalThis.listen = (where) => new Promise((done) => net.createServer((socket) => socket.end("hi")).listen(where, () => done(1)));
           globalThis.greet = (where) => new Promise((done, fail) => net.connect(where).on("error", fail).on("data", (data) => done(String(data))));
           Promise.all([listen("/workspace/socket"), listen(7000)])`,
          `new Promise((done) => net.createServer((far) => { globalThis.far = far; done(1); }).listen("/tmp/pair", () => {
             globalThis.near = net.connect("/tmp/pair"); }))`,
          `globalThis.thread = new (require("worker_threads").Worker)(
             "let n = 0; const { parentPort } = require('worker_threads'); parentPort.on('message', () => parentPort.postMessage(++n))", { eval: true });
           globalThis.count = () => new Promise((done) => { thread.once("message", done); thread.postMessage(0); }); count()`,
          `globalThis.changes = new Promise((done) => fs.watch("/workspace", () => done("seen"))); 0`,
        ],
        { mounts },
      );
      const guest = await restore(bench(), saved);
      const readGone = `(() => { const text = Buffer.alloc(4); fs.readSync(gone, text, 0, 4, 0); return String(text); })()`;
      expect(await ask(guest, readGone)).toBe("kept");
      expect(await ask(guest, `Promise.all([greet("/workspace/socket"), greet(7000)])`)).toEqual([
        "hi",
        "hi",
      ]);
      const through = `new Promise((done) => { near.once("data", (data) => done(String(data))); far.write("through"); })`;
      expect(await ask(guest, through)).toBe("through");
      expect(await ask(guest, "count()")).toBe(2);
      expect(await ask(guest, `fs.writeFileSync("/workspace/new", ""); changes`)).toBe("seen");
      await guest.destroy();
    });

    it("writes nothing of a guest's memory anywhere but into the folder it was given", async () => {
      const secret = "Buffer.from([...'marker of memory'].reverse().join('')).toString('hex')";
      const saved = await save(bench(), staging, [`globalThis.secret = ${secret}; 0`]);
      const marker = Buffer.from([..."marker of memory"].reverse().join("")).toString("hex");
      const found = async (folder: string) => {
        const grep = await execa("grep", ["-rlaF", marker, folder], { reject: false });
        return grep.stdout.split("\n").filter(Boolean);
      };
      const guest = await restore(bench(), saved);
      expect(await ask(guest, "secret.length")).toBe(marker.length);
      expect(await found(saved.directory)).toEqual([path.join(saved.directory, "pages.img")]);
      // State folders of the drivers, logs, root filesystems, the suite's own folder.
      expect(await found(path.dirname(bench().scratch))).toEqual([]);
      expect(await found("/run/helmr")).toEqual([]);
      await guest.destroy();
      expect(await found(path.dirname(bench().scratch))).toEqual([]);
    });

    it("keeps a child process and the pipes between", async () => {
      const saved = await save(bench(), staging, [
        `globalThis.child = require("child_process").spawn("/bin/cat"); child.stdout.setEncoding("utf8"); child.pid`,
      ]);
      const guest = await restore(bench(), saved);
      const answer = await ask(
        guest,
        `new Promise((done) => { child.stdout.once("data", done); child.stdin.write("through"); })`,
      );
      expect(answer).toBe("through");
      expect(await ask(guest, `process.kill(child.pid, 0) && child.pid`)).toBe(saved.answers[0]);
      await guest.destroy();
    });

    it("shows the time of now on every clock; timers that came due meanwhile fire, later ones wait", async () => {
      const saved = await save(bench(), staging, [
        `globalThis.fired = []; globalThis.soon = new Promise((done) => setTimeout(() => done(fired.push("soon")), 1000));
         setTimeout(() => fired.push("later"), 3600_000); 0`,
        "globalThis.then = { wall: Date.now(), steady: performance.now() }; 0",
      ]);
      const parkedMs = 1200;
      await delay(parkedMs);
      const guest = await restore(bench(), saved);
      const now = "({ wall: Date.now() - then.wall, steady: performance.now() - then.steady })";
      const passed = (await ask(guest, now)) as { wall: number; steady: number };
      expect(passed.wall).toBeGreaterThanOrEqual(parkedMs);
      expect(passed.steady).toBeGreaterThanOrEqual(parkedMs - 1);
      expect(await ask(guest, "soon.then(() => fired)")).toEqual(["soon"]);
      await guest.destroy();
    });

    it("resets old connections and opens new ones under the new network", async () => {
      const { gatewayAddress } = bench().isolation;
      const network = { mode: "internet" as const, deny: [], workerPorts: [port] };
      const connect = `new Promise((done, fail) => {
        const socket = require("net").connect(${port}, "${gatewayAddress}");
        globalThis.socket = socket;
        globalThis.closed = new Promise((over) => socket.once("close", () => over("closed")));
        socket.on("error", fail); socket.once("data", (data) => done(String(data)));
      })`;
      const own = `require("os").networkInterfaces().eth0[0].address`;
      const saved = await save(bench(), staging, [connect, own, "closed.catch(() => 0); 0"], { network });
      expect(saved.answers[0]).toBe("hello");
      const guest = await restore(bench(), saved);
      // A write tells at the latest; a connection that hangs would keep the promise pending until the test's limit.
      expect(await ask(guest, `socket.write("x"); closed`)).toBe("closed");
      expect(await ask(guest, own)).not.toBe(saved.answers[1]);
      expect(await ask(guest, connect)).toBe("hello");
      expect(
        await ask(
          guest,
          `new Promise((done) => require("net").connect(9, "192.168.0.1").on("error", (e) => done(e.code)))`,
        ),
      ).toMatch(/^E/);
      await guest.destroy();
      expect(await bench().leftovers()).toEqual([]);
    });

    it("resolves names and reaches a public host after a restore", async ({ skip }) => {
      const online = await fetch(`https://${publicHost}/ms`).catch(() => undefined);
      if (online === undefined) skip("this machine reaches no public host");
      const network = { mode: "internet" as const, deny: [] };
      const saved = await save(bench(), staging, ["0"], { network });
      const guest = await restore(bench(), saved);
      expect(
        await ask(guest, `fetch("https://${publicHost}/ms").then((r) => r.status, (e) => String(e.cause))`),
      ).toBe(200);
      await guest.destroy();
    });

    it("restores one checkpoint twice, independently", async () => {
      const saved = await save(bench(), staging, ["globalThis.count = 1"]);
      const guests = await Promise.all([restore(bench(), saved), restore(bench(), saved)]);
      const [first, second] = guests;
      await ask(first, `count += 10; require("fs").writeFileSync("/etc/mine", "first")`);
      expect(await ask(second, `[count, require("fs").existsSync("/etc/mine")]`)).toEqual([1, false]);
      expect(await ask(first, "count")).toBe(11);
      await first.destroy();
      expect(await ask(second, "count")).toBe(1);
      await second.destroy();
      expect((await readdir(saved.directory)).length).toBe(saved.record.files.length);
    });

    it("saves a guest that was restored", async () => {
      const saved = await save(bench(), staging, ["globalThis.count = 1"]);
      const guest = await restore(bench(), saved);
      await ask(guest, "count += 1");
      const directory = await staging.folder();
      const record = await guest.checkpoint({ directory });
      await guest.destroy();
      const again = await restore(bench(), { spec: saved.spec, directory, record });
      expect(await ask(again, "count")).toBe(2);
      await again.destroy();
    });

    it("holds the guest until it is resumed, and then goes on as if nothing had happened", async () => {
      const network = { mode: "internet" as const, deny: [], workerPorts: [port] };
      const guest = await startEvaluator(bench().isolation, evaluatorSpec(bench(), { network }));
      const folder = await staging.folder();
      await ask(
        guest,
        `new Promise((done) => {
           globalThis.heard = "";
           globalThis.until = (part) => new Promise((found) => setInterval(() => heard.includes(part) && found(heard), 5));
           require("net").connect(${port}, "${bench().isolation.gatewayAddress}")
             .on("data", (data) => { heard += data; }).on("close", () => { heard += " closed"; });
           until("hello").then(done); })`,
      );
      await ask(guest, `globalThis.ticks = 0; setInterval(() => ticks++, 1); 0`);
      await guest.checkpoint({ directory: folder });
      const from = connections.length;
      guest.stream.write("ticks\n");
      await delay(300);
      expect(guest.stream.readableLength).toBe(0);
      await expect(guest.checkpoint({ directory: folder })).rejects.toThrow(/it is held/);
      await guest.resume();
      expect(Number(await waitForOutput(guest, /\n$/))).toBeGreaterThanOrEqual(0);
      expect(await readdir(folder)).toEqual([]);
      expect(connections.length).toBe(from);
      connections.at(-1)?.write(" still there");
      expect(await ask(guest, `until(" ")`)).toBe("hello still there");
      // A second attempt after one that was given up.
      await guest.checkpoint({ directory: folder });
      await guest.destroy();
      expect(await bench().leftovers()).toEqual([]);
    });

    it("goes on also when the folder was removed first, and can be saved again", async () => {
      const guest = await startEvaluator(bench().isolation, evaluatorSpec(bench()));
      const removed = await staging.folder();
      await guest.checkpoint({ directory: removed });
      await rm(removed, { recursive: true });
      await guest.resume();
      expect(await ask(guest, "1 + 1")).toBe(2);
      await guest.checkpoint({ directory: await staging.folder() });
      await guest.destroy();
    });

    it("saves a paused guest", async () => {
      const guest = await startEvaluator(bench().isolation, evaluatorSpec(bench()));
      await guest.pause();
      const directory = await staging.folder();
      await guest.checkpoint({ directory });
      await guest.resume();
      expect(await ask(guest, "1 + 1")).toBe(2);
      await guest.destroy();
    });

    it("saves a guest that fills most of its memory", async () => {
      const resources = { cpu: 1, memoryMib: 256, diskMib: 64 };
      const fill = `globalThis.full = Array.from({ length: 150 }, () => require("crypto").randomBytes(1 << 20)); full.length`;
      const saved = await save(bench(), staging, [fill], { resources });
      const guest = await restore(bench(), saved);
      expect(await ask(guest, "full.length")).toBe(150);
      expect(await guest.oomKills()).toBe(0);
      await guest.destroy();
    });

    it("leaves the guest running when the folder is full, not empty or missing", async () => {
      const full = await newFolder(bench(), "full");
      await execa("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", full]);
      try {
        const guest = await startEvaluator(bench().isolation, evaluatorSpec(bench()));
        await expect(guest.checkpoint({ directory: full })).rejects.toThrow(/space/);
        expect(await readdir(full)).toEqual([]);
        expect(await ask(guest, "1 + 1")).toBe(2);
        await writeFile(path.join(full, "file"), "");
        await expect(guest.checkpoint({ directory: full })).rejects.toThrow(/not empty/);
        await expect(guest.checkpoint({ directory: path.join(full, "missing") })).rejects.toThrow(/ENOENT/);
        const directory = await staging.folder();
        const record = await guest.checkpoint({ directory });
        await guest.destroy();
        const restored = await restore(bench(), { spec: evaluatorSpec(bench()), directory, record });
        expect(await ask(restored, "2 + 2")).toBe(4);
        await restored.destroy();
      } finally {
        await unmount(full);
      }
    });

    it("ends with its guest when that is destroyed meanwhile", async () => {
      const guest = await startEvaluator(bench().isolation, evaluatorSpec(bench()));
      const saving = guest.checkpoint({ directory: await staging.folder() });
      saving.catch(() => undefined);
      await guest.destroy();
      await Promise.allSettled([saving]);
      await expect(guest.resume()).rejects.toThrow();
      await vi.waitUntil(async () => (await bench().leftovers()).length === 0, 20_000);
    });

    it("refuses to save a guest that writes a layer", async () => {
      const captureWritesTo = path.join(await newFolder(bench(), "layer"), "upper");
      const guest = await startEvaluator(bench().isolation, evaluatorSpec(bench(), { captureWritesTo }));
      await expect(guest.checkpoint({ directory: await staging.folder() })).rejects.toThrow(/writes a layer/);
      expect(await ask(guest, "1 + 1")).toBe(2);
      await guest.destroy();
    });

    it("refuses what does not fit before anything is started", async () => {
      const saved = await save(bench(), staging, ["0"]);
      const changed = (change: Partial<CheckpointRecord>) => ({
        ...saved,
        record: { ...saved.record, ...change },
      });
      await expect(restore(bench(), changed({ driver_version: "other" }))).rejects.toThrow(/was made by/);
      await expect(
        restore(bench(), changed({ cpu_features: ["avx9000"], cpu_features_digest: "0".repeat(16) })),
      ).rejects.toThrow(/avx9000/);
      await expect(restore(bench(), saved, { env: { HOME: "/tmp" } })).rejects.toThrow(/environment/);
      await expect(restore(bench(), saved, { root: { ...saved.spec.root, digest: "x" } })).rejects.toThrow(
        /image/,
      );
      const mounts = [
        { destination: "/more", source: { kind: "tmpfs", sizeMib: 1 }, readOnly: false },
      ] as const;
      await expect(restore(bench(), saved, { mounts })).rejects.toThrow(/mounts/);
      expect(await bench().leftovers()).toEqual([]);
    });

    it("makes ready before the image is there, and goes on when it is", async () => {
      const saved = await save(bench(), staging, ["globalThis.kept = 7"]);
      const directory = await staging.folder();
      const spec = { ...saved.spec, id: "t-prepared" };
      const prepared = await bench().isolation.prepareRestore(spec, directory);
      await cp(saved.directory, directory, { recursive: true });
      const guest = await prepared.restore({ record: saved.record, written: saved.record.files });
      expect(await ask(guest, "kept")).toBe(7);
      await expect(prepared.restore({ record: saved.record })).rejects.toThrow(/one guest/);
      await prepared.release();
      expect(await ask(guest, "kept + 1")).toBe(8);
      await guest.destroy();
      expect(await bench().leftovers()).toEqual([]);
    });

    it("leaves nothing of what was made ready when it is released, or its checkpoint is not restored", async () => {
      const network = { mode: "internet", deny: [] } as const;
      const saved = await save(bench(), staging, ["0"], { network });
      const prepare = () =>
        bench().isolation.prepareRestore({ ...saved.spec, id: "t-prepared" }, saved.directory);
      const released = await prepare();
      expect(await bench().leftovers()).not.toEqual([]);
      await Promise.all([released.release(), released.release()]);
      expect(await bench().leftovers()).toEqual([]);
      await expect(released.restore({ record: saved.record })).rejects.toThrow(/one guest/);
      const other = { ...saved.record, root_digest: "other" };
      await expect((await prepare()).restore({ record: other })).rejects.toThrow(/image/);
      expect(await bench().leftovers()).toEqual([]);
      const [first = { name: "", size_bytes: 0, crc32: 0 }, ...rest] = saved.record.files;
      const written = [{ ...first, crc32: first.crc32 ^ 1 }, ...rest];
      await expect((await prepare()).restore({ record: saved.record, written })).rejects.toThrow(/damaged/);
      expect(await bench().leftovers()).toEqual([]);
    });

    it("refuses an image with a missing, truncated or changed file", async () => {
      const saved = await save(bench(), staging, ["0"]);
      for (const { name, size_bytes } of saved.record.files) {
        const file = async (directory: string) => path.join(directory, name);
        const truncated = { ...saved, directory: await staging.copyOf(saved.directory) };
        await truncate(await file(truncated.directory), size_bytes - 1);
        await expect(restore(bench(), truncated)).rejects.toThrow(/bytes instead of/);
        const flipped = { ...saved, directory: await staging.copyOf(saved.directory) };
        const content = await readFile(await file(flipped.directory));
        const at = Math.floor(size_bytes / 2);
        content.writeUInt8(content.readUInt8(at) ^ 1, at);
        await writeFile(await file(flipped.directory), content);
        await expect(restore(bench(), flipped)).rejects.toThrow(/damaged/);
      }
      const missing = { ...saved, directory: await staging.folder() };
      await expect(restore(bench(), missing)).rejects.toThrow(/missing/);
      expect(await bench().leftovers()).toEqual([]);
    });
  });
}
