/**
 * Versions of a workspace beside restic and `tar | zstd`, on the same tree of 50,000 small files (quick: 10,000): the first save, saves
 * after ten files changed, a restore with the stored files out of the page cache (cold) and in it (warm), bytes stored.
 *
 * Contenders take turns; the folder that is saved is in the page cache. Helmr saves as a worker does: in a process that runs on, with the
 * index of the save before, every artifact synced to disk. restic is a process per save with its local cache and parent snapshot; it
 * encrypts, Helmr's store does not. tar reads and writes everything each time and syncs nothing. zstd has both cores.
 *
 * Not measured: a store behind a network, removing the guest's processes before a save, the database, large files.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { hold } from "./leftovers.ts";
import { type BenchOptions, latencyRow, percentile, type Row, timed } from "./measure.ts";
import {
  type Contender,
  dropFromCache,
  emptyFolder,
  findRestic,
  helmr,
  restic,
  storedBytes,
  tarZstd,
} from "./workspace-contenders.ts";
import { changeTenFiles, makeTree } from "./workspace-trees.ts";

interface Figures {
  readonly first: number[];
  readonly second: number[];
  readonly cold: number[];
  readonly warm: number[];
  readonly firstBytes: number[];
  readonly secondBytes: number[];
}

export async function benchWorkspaceVersions({ quick }: BenchOptions): Promise<Row[]> {
  const [files, rounds, edits] = quick ? [10_000, 1, 3] : [50_000, 3, 5];
  const scratch = await mkdtemp(join(tmpdir(), "helmr-bench-workspaces-"));
  await using _held = { [Symbol.asyncDispose]: hold(() => rm(scratch, { recursive: true, force: true })) };
  const folder = await emptyFolder(join(scratch, "folder"));
  const bytes = await makeTree(folder, files);
  const found = await findRestic(scratch);
  if ("missing" in found) console.error(`no restic to compare with: ${found.missing}`);
  await warmUp(scratch);

  const figures = new Map<Contender["name"], Figures>();
  const of = ({ name }: Contender): Figures => {
    const known = figures.get(name) ?? {
      first: [],
      second: [],
      cold: [],
      warm: [],
      firstBytes: [],
      secondBytes: [],
    };
    figures.set(name, known);
    return known;
  };
  for (let round = 0; round < rounds; round += 1) {
    const storage = await emptyFolder(join(scratch, `storage-${round}`));
    const contenders = [helmr(folder, storage), tarZstd(folder, storage)];
    if ("program" in found) contenders.push(await restic(folder, storage, found.program));
    await measureSaves(contenders, { folder, files, edits, round, of });
    // The first round's only: they take long, and are not what this is about.
    if (round === 0) await measureRestores(contenders, scratch, of);
  }
  const tree = `${files} files, ${(bytes / 1e6).toFixed(0)} MB`;
  return rows(figures, tree, "missing" in found ? found.missing : undefined);
}

/** The thread and its code: a worker has saved before. */
async function warmUp(scratch: string): Promise<void> {
  const folder = await emptyFolder(join(scratch, "warm-up"));
  await makeTree(folder, 500);
  const contender = helmr(folder, await emptyFolder(join(scratch, "warm-up-storage")));
  for (let n = 0; n < 3; n += 1) await contender.save();
  await contender.restore(await emptyFolder(join(scratch, "warm-up-restored")));
}

async function measureSaves(
  contenders: readonly Contender[],
  options: {
    readonly folder: string;
    readonly files: number;
    readonly edits: number;
    readonly round: number;
    readonly of: (contender: Contender) => Figures;
  },
): Promise<void> {
  const { folder, files, edits, round, of } = options;
  // What was just written is read again by the next save, as it must be: let it age.
  await sleep(200);
  for (const contender of rotated(contenders, round)) {
    of(contender).first.push(await timed(() => contender.save()));
    of(contender).firstBytes.push(await storedBytes(contender.storage));
  }
  for (let edit = 0; edit < edits; edit += 1) {
    await changeTenFiles(folder, files, 1000 * (round + 1) + edit);
    await sleep(200);
    for (const contender of rotated(contenders, edit)) {
      const before = await storedBytes(contender.storage);
      of(contender).second.push(await timed(() => contender.save()));
      of(contender).secondBytes.push((await storedBytes(contender.storage)) - before);
    }
  }
}

/** Each into a folder of its own, all removed at the end: ext4 creates files slowly where many were just deleted. */
async function measureRestores(
  contenders: readonly Contender[],
  scratch: string,
  of: (contender: Contender) => Figures,
): Promise<void> {
  for (const contender of contenders) {
    const into = (name: string) => emptyFolder(join(scratch, `${contender.name}-${name}`));
    await dropFromCache(contender.storage);
    const cold = await into("cold");
    of(contender).cold.push(await timed(() => contender.restore(cold)));
    for (let n = 0; n < 2; n += 1) {
      const warm = await into(`warm-${n}`);
      of(contender).warm.push(await timed(() => contender.restore(warm)));
    }
  }
}

const rotated = <T>(list: readonly T[], by: number): readonly T[] => {
  const at = by % list.length;
  return [...list.slice(at), ...list.slice(0, at)];
};

function rows(
  figures: Map<Contender["name"], Figures>,
  tree: string,
  resticMissing: string | undefined,
): Row[] {
  const ours = figures.get("helmr") as Figures;
  const theirs = figures.get("restic");
  const median = (values: readonly number[]) => percentile(values, 0.5);
  const all: Row[] = [
    {
      name: "workspace.save.second_vs_first",
      ratio: ratio(median(ours.first), median(ours.second)),
      runs: ours.second.length,
      note: `${tree}: first save by the save after ten files changed, medians`,
    },
  ];
  if (theirs !== undefined)
    all.push({
      name: "workspace.save.second_vs_restic",
      ratio: ratio(median(theirs.second), median(ours.second)),
      runs: ours.second.length,
      note: "restic's save after ten files changed by ours, medians; restic starts a process and encrypts",
    });
  else console.error(`workspace.save.second_vs_restic is not measured: ${resticMissing}`);
  for (const [name, found] of figures) {
    const prefix = name === "helmr" ? "workspace" : `workspace.${name}`;
    all.push(
      latencyRow(`${prefix}.save.first`, found.first, "into an empty store"),
      latencyRow(`${prefix}.save.second`, found.second, "ten files changed"),
      latencyRow(`${prefix}.restore.cold`, found.cold, "stored files not in the page cache"),
      latencyRow(`${prefix}.restore.warm`, found.warm),
      { name: `${prefix}.stored.first`, bytes: median(found.firstBytes), runs: found.firstBytes.length },
      {
        name: `${prefix}.stored.second`,
        bytes: median(found.secondBytes),
        runs: found.secondBytes.length,
        note: "added by the save after ten files changed",
      },
    );
  }
  return all;
}

const ratio = (a: number, b: number) => Math.round((a / b) * 100) / 100;
