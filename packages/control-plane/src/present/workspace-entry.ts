/** Entries of saved trees and what differs between two, on the wire (contract 7.7). */
import type { VersionChange, VersionEntry } from "@helmr/artifacts/versions";

type PresentedEntry = Pick<
  VersionEntry,
  "path" | "name" | "kind" | "sizeBytes" | "mode" | "mtimeNs" | "linkTarget"
>;

export function presentEntry(entry: PresentedEntry) {
  const modTime = presentTime(entry.mtimeNs);
  return {
    path: entry.path,
    ...(entry.name === "" ? {} : { name: entry.name }),
    kind: entry.kind,
    size_bytes: entry.sizeBytes,
    mode: entry.mode,
    ...(entry.linkTarget === undefined ? {} : { link_target: entry.linkTarget }),
    ...(modTime === undefined ? {} : { mod_time: modTime }),
  };
}

/** RFC 3339 with nanoseconds; undefined for a time that it cannot say. */
function presentTime(ns: bigint): string | undefined {
  const second = 1_000_000_000n;
  const fraction = ((ns % second) + second) % second;
  const ms = Number((ns - fraction) / 1_000_000n);
  if (ms < Date.parse("0000-01-01T00:00:00Z") || ms > Date.parse("9999-12-31T23:59:59Z")) return undefined;
  return `${new Date(ms).toISOString().slice(0, 19)}.${String(fraction).padStart(9, "0")}Z`;
}

export function presentChange({ change, path, before, after }: VersionChange) {
  const entry = after ?? before;
  return {
    path,
    change,
    kind: entry?.kind ?? "file",
    size_bytes: entry?.sizeBytes ?? 0,
    ...(change === "renamed" && before !== undefined ? { previous_path: before.path } : {}),
  };
}
