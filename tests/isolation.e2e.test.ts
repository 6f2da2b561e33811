/** What code inside a task can reach: nothing of the host, of Helmr, or of other runs. */
import { readdir, rm, writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, it, onTestFinished } from "vitest";
import { deployBehaviours, probe, probeScript, runTask } from "./support/behaviours.ts";
import { helmr } from "./support/cli.ts";
import { stackClient, stackEnv } from "./support/client.ts";

beforeAll(deployBehaviours, 300_000);

/** A script that prints "open" or the error code for a TCP connection from inside the guest. */
const connect = (host: string, port: number) => `
  import { connect } from "node:net";
  const socket = connect({ host: ${JSON.stringify(host)}, port: ${port}, timeout: 4000 });
  socket.on("connect", () => { console.log("open"); process.exit(); });
  socket.on("timeout", () => { console.log("timeout"); process.exit(); });
  socket.on("error", (error) => { console.log(error.code); process.exit(); });
`;

describe("the host's files and processes", () => {
  it("are not there", async () => {
    const marker = join(inject("stackDataDir"), "planted-marker");
    await writeFile(marker, "host only");
    onTestFinished(() => rm(marker));
    const read = await probe("probe-open", "cat", marker);
    expect(read.code).not.toBe(0);
    const find = await probe(
      "probe-open",
      "sh",
      "-c",
      "find / -xdev -name planted-marker -o -name state.json 2>/dev/null | head",
    );
    expect(find.stdout).toBe("");
  });

  it("cannot be seen through /proc", async () => {
    const processes = await probe("probe-open", "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    expect(processes.stdout).not.toContain("postgres");
    expect(processes.stdout).not.toContain("runsc");
    expect(processes.stdout).not.toContain(`helmr.mjs dev`);
  });

  it("run another kernel", async () => {
    const kernel = await probe("probe-open", "dmesg");
    expect(kernel.stdout).toMatch(/gVisor/);
  });

  it("cannot be mounted or written to from inside", async () => {
    const mount = await probe(
      "probe-open",
      "sh",
      "-c",
      "mount -t ext4 /dev/vda /mnt 2>&1; ls /dev; mknod /tmp/disk b 8 0 2>&1",
    );
    expect(mount.stdout).not.toMatch(/\b(vda|sda|nvme0n1|loop0|kvm)\b/);
    const helmrDir = await probe(
      "probe-open",
      "sh",
      "-c",
      "echo x > /opt/helmr/agent.mjs; echo x > /opt/helmr-task/.helmr/deployment-source/helmr.config.ts",
    );
    expect(helmrDir.code).not.toBe(0);
    expect(helmrDir.stderr).toMatch(/read-only|denied/i);
  });
});

describe("the credentials of Helmr", () => {
  it("are in no environment and no file of the guest", async () => {
    const key = inject("stackApiKey");
    const environment = await probe(
      "probe-open",
      "sh",
      "-c",
      "env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'",
    );
    expect(environment.stdout).not.toContain(key);
    expect(environment.stdout).not.toMatch(/hlmr_(sk|wk|wb)_/);
    const files = await probe(
      "probe-open",
      "sh",
      "-c",
      "grep -rlE 'hlmr_(sk|wk|wb)_[A-Za-z0-9_-]{43}' /etc /home /root /run /tmp /opt /workspace 2>/dev/null | head -3",
    );
    expect(files.stdout).toBe("");
  });

  it("secrets arrive as env, file and dir, and only in the run that declares them", async () => {
    const value = `planted-${crypto.randomUUID()}`;
    const set = await helmr(["secret", "set", "API_TOKEN"], { env: stackEnv(), input: value });
    expect(set.exitCode, set.stderr).toBe(0);
    const result = await runTask("reads-secrets");
    expect(result.run.output).toEqual({ same: true, length: value.length, mode: "440", uid: 1000 });
    expect(JSON.stringify(result.events)).not.toContain(value);
    const other = await probe("probe-open", "sh", "-c", "env; ls -la /run/secrets /run/more-secrets 2>&1");
    expect(other.stdout).not.toContain(value);
    expect(other.stdout).not.toContain("TOKEN_IN_ENV");
  });
});

describe("other runs", () => {
  it("have workspaces of their own", async () => {
    const secret = `workspace-marker-${crypto.randomUUID()}`;
    await probe("probe-open", "sh", "-c", `echo ${secret} > /workspace/mine`);
    const look = await probe(
      "probe-open",
      "sh",
      "-c",
      "ls -A /workspace; grep -rl workspace-marker / --include=mine 2>/dev/null",
    );
    expect(look.stdout.replace("lost+found\n", "")).toBe("");
  });

  it("find their files again in the same workspace", async () => {
    const first = await runTask("counts-visits");
    const second = await runTask("counts-visits", {}, { workspaceId: String(first.workspaceId) });
    expect([first.run.output, second.run.output]).toEqual([1, 2]);
    expect(second.workspaceId).toBe(first.workspaceId);
  });
});

describe("the network", () => {
  const controlPlanePort = () => Number(new URL(inject("stackUrl")).port);

  it("reaches a public name over TLS", async () => {
    const fetched = await probeScript(
      "probe-open",
      "const answer = await fetch('https://registry.npmjs.org/is-number'); console.log(answer.status)",
    );
    expect(fetched.stdout).toBe("200\n");
  });

  it("does not reach the control plane or any address of the host", async () => {
    const addresses = Object.values(networkInterfaces())
      .flat()
      .filter((address) => address?.family === "IPv4")
      .map((address) => String(address?.address));
    for (const host of ["127.0.0.1", ...addresses]) {
      const tried = await probeScript("probe-open", connect(host, controlPlanePort()));
      expect(tried.stdout, host).not.toContain("open");
    }
  });

  it.each(["169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"])(
    "does not reach %s",
    async (host) => {
      const tried = await probeScript("probe-open", connect(host, 80));
      expect(tried.stdout).not.toContain("open");
    },
  );

  it("is not there at all when the sandbox turns it off", async () => {
    const tried = await probeScript("probe-offline", connect("registry.npmjs.org", 443));
    expect(tried.stdout).not.toContain("open");
    const interfaces = await probeScript(
      "probe-offline",
      "import os from 'node:os'; console.log(Object.keys(os.networkInterfaces()))",
    );
    expect(interfaces.stdout.trim()).toBe("[ 'lo' ]");
  });

  it("refuses what the sandbox denies and nothing else", async () => {
    const refused = await probeScript("probe-denied", connect("registry.npmjs.org", 443));
    expect(refused.stdout).not.toContain("open");
  });
});

describe("the guest", () => {
  it("looks as documented", async () => {
    const look = await probe(
      "probe-open",
      "sh",
      "-c",
      "cat /etc/hostname; hostname; grep helmr-sandbox /etc/hosts; test -s /etc/resolv.conf; ls -d /dev/pts /dev/ptmx /dev/shm /tmp /run /proc/self /sys",
    );
    expect(look.code, look.stderr).toBe(0);
    expect(look.stdout.split("\n").slice(0, 2)).toEqual(["helmr-sandbox", "helmr-sandbox"]);
  });

  it("is gone from the host when its run has ended", async () => {
    const client = stackClient();
    const started = await client.sessions.start("returns-nothing", {});
    await client.runs.wait(started.run.id, { timeoutMs: 60_000 });
    const scratch = await readdir(join(inject("stackDataDir"), "worker"));
    expect(scratch).not.toContain(started.run.id);
  });
});
