/** What differs between two versions, path by path. */
import type { VersionEntry, VersionReader } from "./open-version.ts";

/**
 * `modified`: a file's content or a link's target; `metadata`: only mode, owner, extended attributes, or which file it is a name of (a
 * time alone is no change); `type`: a file became a link, and so on; `renamed`: the same content under another path, `before` says which.
 */
export interface VersionChange {
  readonly change: "added" | "removed" | "modified" | "metadata" | "type" | "renamed";
  /** In the newer version, or of what was removed. */
  readonly path: string;
  readonly pathBytes: Buffer;
  readonly before?: VersionEntry;
  readonly after?: VersionEntry;
}

interface Pair {
  readonly change: VersionChange["change"];
  readonly before: number | undefined;
  readonly after: number | undefined;
}

/**
 * The changes from `a` to `b`, by path in the manifests' order, `limit` of them after the first `after` ones. `next` is the `after` of what
 * follows. Everything below an added or removed directory is listed, too.
 */
export function diffVersions(
  a: VersionReader,
  b: VersionReader,
  options: { readonly limit: number; readonly after?: number | undefined },
): { readonly changes: readonly VersionChange[]; readonly total: number; readonly next?: number } {
  const pairs = withRenames(a, b, comparePairs(a, b));
  const from = options.after ?? 0;
  const changes = pairs.slice(from, from + options.limit).map((pair) => asChange(a, b, pair));
  const end = from + changes.length;
  return { changes, total: pairs.length, ...(end < pairs.length && { next: end }) };
}

function asChange(a: VersionReader, b: VersionReader, { change, before, after }: Pair): VersionChange {
  const old = before === undefined ? undefined : a.entry(before);
  const now = after === undefined ? undefined : b.entry(after);
  const { path, pathBytes } = (now ?? old) as VersionEntry;
  return { change, path, pathBytes, ...(old && { before: old }), ...(now && { after: now }) };
}

/** Walks both trees at once, without recursion: they may be deep. */
function comparePairs(a: VersionReader, b: VersionReader): Pair[] {
  const pairs: Pair[] = [];
  if (a.contentDigest === b.contentDigest) return pairs;
  const whole = (change: "added" | "removed", reader: VersionReader, entry: number) => {
    for (let at = entry; at < (reader.manifest.end[entry] as number); at += 1)
      pairs.push(
        change === "added"
          ? { change, before: undefined, after: at }
          : { change, before: at, after: undefined },
      );
  };
  const stack = [levelOf(a, b, 0, 0)];
  compareEntries(a, b, 0, 0, pairs);
  for (let level = stack.at(-1); level !== undefined; level = stack.at(-1)) {
    const before = level.before[level.nextBefore];
    const after = level.after[level.nextAfter];
    if (before === undefined && after === undefined) {
      stack.pop();
      continue;
    }
    const oldName = before === undefined ? undefined : a.manifest.name(before);
    const newName = after === undefined ? undefined : b.manifest.name(after);
    if (before !== undefined && (newName === undefined || (oldName as string) < newName)) {
      whole("removed", a, before);
      level.nextBefore += 1;
    } else if (after !== undefined && (oldName === undefined || (newName as string) < oldName)) {
      whole("added", b, after);
      level.nextAfter += 1;
    } else if (before !== undefined && after !== undefined) {
      level.nextBefore += 1;
      level.nextAfter += 1;
      compareEntries(a, b, before, after, pairs);
      const oldIsDirectory = a.manifest.kind(before) === "directory";
      const newIsDirectory = b.manifest.kind(after) === "directory";
      if (oldIsDirectory && newIsDirectory) stack.push(levelOf(a, b, before, after));
      // What was below a directory that is none any more, and the other way round.
      else if (oldIsDirectory) for (const child of a.manifest.children(before)) whole("removed", a, child);
      else if (newIsDirectory) for (const child of b.manifest.children(after)) whole("added", b, child);
    }
  }
  return pairs;
}

function levelOf(a: VersionReader, b: VersionReader, before: number, after: number) {
  return {
    before: a.manifest.children(before),
    after: b.manifest.children(after),
    nextBefore: 0,
    nextAfter: 0,
  };
}

function compareEntries(
  a: VersionReader,
  b: VersionReader,
  before: number,
  after: number,
  pairs: Pair[],
): void {
  const old = a.manifest;
  const now = b.manifest;
  const kind = old.kind(before);
  if (kind !== now.kind(after)) pairs.push({ change: "type", before, after });
  else if (
    old.size[before] !== now.size[after] ||
    old.targets.get(before) !== now.targets.get(after) ||
    (kind === "file" && !old.sha256(before).equals(now.sha256(after)))
  )
    pairs.push({ change: "modified", before, after });
  else if (
    old.mode[before] !== now.mode[after] ||
    old.uid[before] !== now.uid[after] ||
    old.gid[before] !== now.gid[after] ||
    attributesOf(a, before) !== attributesOf(b, after) ||
    firstNameOf(a, before) !== firstNameOf(b, after)
  )
    pairs.push({ change: "metadata", before, after });
}

function attributesOf({ manifest }: VersionReader, entry: number): string {
  const attributes = manifest.attributes.get(entry);
  return attributes === undefined
    ? ""
    : attributes.map((a) => `${a.name}=${a.value.toString("hex")}`).join(",");
}

function firstNameOf({ manifest }: VersionReader, entry: number): string {
  const first = manifest.links.get(entry);
  return first === undefined ? "" : manifest.path(first).toString("latin1");
}

/** An added and a removed file of the same content that is not empty are one that moved; of several, the one of the same name first. */
function withRenames(a: VersionReader, b: VersionReader, pairs: readonly Pair[]): readonly Pair[] {
  const removed = new Map<string, number[]>();
  for (const { change, before } of pairs) {
    if (change !== "removed" || before === undefined || !isFullFile(a, before)) continue;
    const key = a.manifest.sha256(before).toString("latin1");
    removed.set(key, [...(removed.get(key) ?? []), before]);
  }
  if (removed.size === 0) return pairs;
  const moved = new Set<number>();
  const renamed = pairs.map((pair): Pair => {
    if (pair.change !== "added" || pair.after === undefined || !isFullFile(b, pair.after)) return pair;
    const candidates = removed.get(b.manifest.sha256(pair.after).toString("latin1"));
    if (candidates === undefined || candidates.length === 0) return pair;
    const name = b.manifest.name(pair.after);
    // Among very many of the same content, any will do.
    const sameName = candidates.slice(0, 100).findIndex((candidate) => a.manifest.name(candidate) === name);
    const [before] = candidates.splice(Math.max(0, sameName), 1);
    moved.add(before as number);
    return { change: "renamed", before, after: pair.after };
  });
  return renamed.filter(
    ({ change, before }) => change !== "removed" || before === undefined || !moved.has(before),
  );
}

const isFullFile = ({ manifest }: VersionReader, entry: number) =>
  manifest.kind(entry) === "file" && (manifest.size[entry] as number) > 0;
