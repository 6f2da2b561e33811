/** When a worker uses the disk it has of a workspace, and when it restores the version. Needs root. */
import { randomUUID } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { VersionRef } from "@helmr/api";
import { createFolderStore } from "@helmr/artifacts";
import { saveTree } from "@helmr/artifacts/versions";
import { afterEach, beforeEach, expect, it } from "vitest";
import { type MountedDisk, Workspaces } from "../src/workspaces.ts";

let folder = "";
let workspaces: Workspaces;
const spec = { sizeMib: 64, owner: { uid: 0, gid: 0 } };
const reach = async () => undefined;
const id = randomUUID();

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "disks-"));
  workspaces = create();
  await workspaces.recover();
});
afterEach(async () => {
  await workspaces.recover();
  await rm(folder, { recursive: true });
});

const artifacts = () => createFolderStore(join(folder, "artifacts"));
/** Folders for disks: what is tested here is the same for both kinds. */
function create(options: { readonly freeShare?: number } = {}): Workspaces {
  const loopDevices = async () => false;
  return new Workspaces({ dir: join(folder, "workspaces"), artifacts: artifacts(), loopDevices, ...options });
}

const open = (base: VersionRef | undefined, isHere: boolean): Promise<MountedDisk> =>
  workspaces.use(id, () => workspaces.open(id, spec, { base, isHere, reach }));

async function use(base: VersionRef | undefined, isHere: boolean, content: string): Promise<void> {
  const disk = await open(base, isHere);
  await writeFile(join(disk.mountPoint, "file"), content);
  await workspaces.close(disk);
}

async function contentOf(base: VersionRef | undefined, isHere: boolean): Promise<string | undefined> {
  const disk = await open(base, isHere);
  const content = await readFile(join(disk.mountPoint, "file"), "utf8").catch(() => undefined);
  await workspaces.close(disk);
  return content;
}

async function version(content: string): Promise<VersionRef> {
  const from = await mkdtemp(join(folder, "tree-"));
  await writeFile(join(from, "file"), content);
  const saved = await saveTree({ folder: from, artifacts: artifacts() });
  return { version_id: randomUUID(), manifest_digest: saved.manifestDigest };
}

it("keeps unsaved changes for who had the workspace last, and for nobody else", async () => {
  await use(undefined, false, "unsaved");
  expect(await contentOf(undefined, true)).toBe("unsaved");
  expect(await contentOf(undefined, false)).toBeUndefined();

  const first = await version("first");
  await use(first, false, "changed");
  expect(await contentOf(first, true)).toBe("changed");
  expect(await contentOf(first, false)).toBe("first");
  // Somebody restored another version meanwhile.
  await use(first, true, "changed");
  expect(await contentOf(await version("second"), true)).toBe("second");
});

it("uses a clean disk for its version, whoever had the workspace, and restores every other", async () => {
  const first = await version("first");
  const disk = await open(first, false);
  await writeFile(join(disk.mountPoint, "mark"), "this very disk");
  await workspaces.close(disk);
  await workspaces.note(id, first, true);
  expect(await workspaces.holds(id, { base: first, isHere: false })).toBe(true);
  expect(await workspaces.holds(id, { base: undefined, isHere: true })).toBe(false);
  const again = await open(first, false);
  expect((await readdir(again.mountPoint)).sort()).toEqual(["file", "mark"]);
  await workspaces.close(again);
  // In use since: it counts as changed until it is saved.
  expect(await workspaces.holds(id, { base: first, isHere: false })).toBe(false);
});

it("leaves no disk when a restore fails, and what was there before is not taken for it", async () => {
  const first = await version("first");
  await use(first, false, "changed");
  const gone = { version_id: randomUUID(), manifest_digest: `sha256:${"0".repeat(64)}` };
  await expect(open(gone, true)).rejects.toMatchObject({ reason: "artifact_missing" });
  expect(await readdir(join(folder, "workspaces/disks"))).toEqual([]);
  expect(await readdir(join(folder, "workspaces/mounts"))).toEqual([]);
  expect(await contentOf(first, true)).toBe("first");
});

it("trusts no clean disk after the host was started anew, and keeps one with changes", async () => {
  const first = await version("first");
  const other = randomUUID();
  for (const [workspace, isClean] of [
    [id, true],
    [other, false],
  ] as const) {
    await workspaces.use(workspace, async () =>
      workspaces.close(await workspaces.open(workspace, spec, { base: first, isHere: false, reach })),
    );
    await workspaces.note(workspace, first, isClean);
  }
  const states = join(folder, "workspaces/states");
  for (const name of await readdir(states)) {
    if (!name.endsWith(".json")) continue;
    const state = JSON.parse(await readFile(join(states, name), "utf8"));
    await writeFile(join(states, name), JSON.stringify({ ...state, boot_id: "another" }));
  }
  workspaces = create();
  await workspaces.recover();
  expect(await readdir(join(folder, "workspaces/disks"))).toEqual([other]);
});

it("makes room by removing clean disks that nobody uses, and no others", async () => {
  const base = await version("first");
  const [clean, changed, used] = [randomUUID(), randomUUID(), randomUUID()];
  for (const workspace of [clean, changed, used]) {
    await workspaces.use(workspace, async () =>
      workspaces.close(await workspaces.open(workspace, spec, { base, isHere: false, reach })),
    );
    await workspaces.note(workspace, base, workspace !== changed);
  }
  workspaces = create({ freeShare: 2 });
  await workspaces.use(used, async () => {
    const disk = await workspaces.createFresh(spec);
    expect(
      (await readdir(join(folder, "workspaces/disks"))).filter((name) => !name.startsWith("fresh-")).sort(),
    ).toEqual([changed, used].sort());
    await workspaces.discard(disk);
  });
});
