/** A catalog as a hostile guest may write it: every value that a host or a column would trip over is refused. */
import { describe, expect, it } from "vitest";
import { type Catalog, catalog } from "./catalog.ts";

const good: Catalog = {
  format: 2,
  project: "demo",
  tasks: [
    {
      id: "hello",
      file_path: "tasks/main.ts",
      export_name: "hello",
      sandbox_id: "box",
      max_duration_seconds: 60,
      queue: "hello",
      retry: { enabled: false },
      secrets: [{ kind: "file", name: "KEY", path: "/run/secrets/key", mode: "0400" }],
      has_payload: false,
    },
  ],
  queues: [],
  streams: [],
  sandboxes: [
    {
      id: "box",
      image: {
        id: "main",
        steps: [
          { op: "from", ref: "node:24-bookworm-slim" },
          {
            op: "run",
            argv: ["true"],
            cache: [{ mount_path: "/root/.npm", cache_id: "npm" }],
            secrets: [{ mount_path: "/run/secrets/token", secret: "npm.token" }],
          },
          { op: "env", key: "A", value: "" },
        ],
      },
      workspace_mount_path: "/workspace",
      resources: { cpu: 2, memory_mib: 2048, disk_mib: 10_240 },
      network: { internet: true, allow: [], deny: ["example.com"] },
    },
  ],
};

/** The good catalog with one value replaced. */
function withValue(path: readonly (string | number)[], value: unknown): unknown {
  const copy = structuredClone(good) as unknown as Record<string, unknown>;
  const parent = path.slice(0, -1).reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], copy);
  (parent as Record<string, unknown>)[path.at(-1) ?? ""] = value;
  return copy;
}

const step = ["sandboxes", 0, "image", "steps"];

describe("catalog", () => {
  it("takes what the SDK writes", () => {
    expect(catalog.parse(good)).toEqual(good);
  });

  it.each([
    [["project"], "a\0b"],
    [["tasks", 0, "id"], "../../etc"],
    [["tasks", 0, "id"], "x".repeat(129)],
    [["tasks", 0, "file_path"], "../../etc/passwd"],
    [["tasks", 0, "max_duration_seconds"], 2 ** 40],
    [["tasks", 0, "max_duration_seconds"], -1],
    [["tasks", 0, "secrets", 0, "mode"], "9999999"],
    [["tasks", 0, "secrets", 0, "path"], "/workspace/../../etc/shadow"],
    [["sandboxes", 0, "workspace_mount_path"], "/"],
    [["sandboxes", 0, "workspace_mount_path"], "/opt/helmr"],
    [["sandboxes", 0, "workspace_mount_path"], "/proc/self"],
    [["sandboxes", 0, "workspace_mount_path"], "/a/../opt/helmr"],
    [["sandboxes", 0, "workspace_mount_path"], "//opt/helmr"],
    [["sandboxes", 0, "workspace_mount_path"], "relative"],
    [["sandboxes", 0, "resources", "memory_mib"], 2 ** 50],
    [["sandboxes", 0, "network", "deny"], ["x".repeat(300)]],
    [[...step, 0, "ref"], "a\0b"],
    [[...step, 1, "argv"], ["a\0b"]],
    [[...step, 1, "argv"], Array.from({ length: 2000 }, () => "x")],
    [[...step, 1, "cache", 0, "mount_path"], "/proc"],
    [[...step, 1, "cache", 0, "mount_path"], "/opt/helmr/sdk"],
    [[...step, 1, "secrets", 0, "mount_path"], "/run/helmr-packages/npmrc"],
    [[...step, 2, "key"], "A=B"],
    [[...step, 2, "value"], "x".repeat(200_000)],
  ])("refuses %j of %j", (path, value) => {
    expect(catalog.safeParse(withValue(path, value)).success).toBe(false);
  });
});
