/**
 * The rules an uploaded source tree keeps, checked entry by entry without writing anything.
 *
 * T1 Every name is relative, has no `..`, no NUL, and fits the limits; a path has one entry only.
 * T2 Nothing lies below a file or a link: the parents of an entry are folders of this same tree, so that no write can
 *    go through a link.
 * T3 Only regular files, folders, symbolic links and hard links to an earlier regular file: no devices, no pipes.
 * T4 A symbolic link, followed the way the kernel does (through the tree's other links), never leaves the root.
 */
import { DeploymentSourceError } from "./errors.ts";

export interface SourceLimits {
  /** The tar itself. */
  readonly maxTarBytes: number;
  /** Sum of the files' sizes as declared: bounds what extraction writes. */
  readonly maxTotalBytes: number;
  readonly maxFileBytes: number;
  readonly maxEntries: number;
  readonly maxPathBytes: number;
  readonly maxDepth: number;
}

/** Contract 9.1's cap for the tar; the rest keeps a build's disk and memory bounded. */
export const defaultSourceLimits: SourceLimits = {
  maxTarBytes: 128 * 1024 * 1024,
  maxTotalBytes: 128 * 1024 * 1024,
  maxFileBytes: 128 * 1024 * 1024,
  maxEntries: 100_000,
  maxPathBytes: 1024,
  maxDepth: 64,
};

export interface TreeEntry {
  /** POSIX path relative to the root, normalised; "" is the root itself. */
  readonly path: string;
  readonly kind: "file" | "directory" | "symlink" | "link";
  /** Of a symlink: its text. Of a hard link: the normalised path of the file it names. */
  readonly target: string;
  readonly sizeBytes: number;
  readonly mode: number;
}

/** What a tar header says, as far as it matters here. */
export interface EntryHeader {
  readonly name: string;
  readonly type?: string | null | undefined;
  readonly linkname?: string | null | undefined;
  readonly size?: number | undefined;
  readonly mode?: number | undefined;
}

const maxNameBytes = 255;
const maxLinkHops = 40;

/** Takes headers in archive order; throws DeploymentSourceError at the first that breaks a rule. */
export class SourceTree {
  readonly #limits: SourceLimits;
  readonly #nodes = new Map<string, { kind: TreeEntry["kind"]; target: string; implied: boolean }>();
  #entries = 0;
  #totalBytes = 0;

  constructor(limits: SourceLimits) {
    this.#limits = limits;
  }

  get entryCount(): number {
    return this.#entries;
  }
  get totalBytes(): number {
    return this.#totalBytes;
  }

  add(header: EntryHeader): TreeEntry {
    this.#entries += 1;
    if (this.#entries > this.#limits.maxEntries) {
      throw new DeploymentSourceError(`the source has more than ${this.#limits.maxEntries} entries`);
    }
    const kind = kindOf(header);
    const path = this.#normalise(header.name, "name");
    const sizeBytes = kind === "file" ? (header.size ?? 0) : 0;
    this.#countBytes(header.name, sizeBytes);
    this.#claimParents(header.name, path);
    const target = this.#targetOf(header, kind);
    this.#claim(header.name, path, kind, target);
    return { path, kind, target, sizeBytes, mode: header.mode ?? 0o644 };
  }

  /** T4, once all entries are known: a link may name one that comes later. */
  finish(): void {
    if (this.#entries === 0) throw new DeploymentSourceError("the source is empty");
    for (const [path, node] of this.#nodes) {
      if (node.kind === "symlink") this.#followLink(path);
    }
  }

  #normalise(name: string, what: string): string {
    const say = (problem: string) => new DeploymentSourceError(`${shown(name)}: ${what} ${problem}`);
    if (name.includes("\0")) throw say("has a NUL byte");
    if (name.startsWith("/")) throw say("is absolute; names must be relative to the project");
    const parts = name.split("/").filter((part) => part !== "" && part !== ".");
    if (parts.includes("..")) throw say("has a `..`; names must stay in the project");
    if (parts.length > this.#limits.maxDepth)
      throw say(`is nested deeper than ${this.#limits.maxDepth} folders`);
    if (parts.some((part) => Buffer.byteLength(part) > maxNameBytes)) {
      throw say(`has a part longer than ${maxNameBytes} bytes`);
    }
    const path = parts.join("/");
    if (Buffer.byteLength(path) > this.#limits.maxPathBytes) {
      throw say(`is longer than ${this.#limits.maxPathBytes} bytes`);
    }
    return path;
  }

  #countBytes(name: string, sizeBytes: number): void {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > this.#limits.maxFileBytes) {
      throw new DeploymentSourceError(`${shown(name)}: is larger than ${this.#limits.maxFileBytes} bytes`);
    }
    this.#totalBytes += sizeBytes;
    if (this.#totalBytes > this.#limits.maxTotalBytes) {
      throw new DeploymentSourceError(`the source unpacks to more than ${this.#limits.maxTotalBytes} bytes`);
    }
  }

  /** T2. Folders that the archive does not list are made as it goes, and count as entries of the tree. */
  #claimParents(name: string, path: string): void {
    for (let end = path.indexOf("/"); end !== -1; end = path.indexOf("/", end + 1)) {
      const parent = path.slice(0, end);
      const node = this.#nodes.get(parent);
      if (node === undefined) this.#nodes.set(parent, { kind: "directory", target: "", implied: true });
      else if (node.kind !== "directory") {
        throw new DeploymentSourceError(
          `${shown(name)}: lies below ${shown(parent)}, which is a ${words[node.kind]}`,
        );
      }
    }
  }

  #targetOf(header: EntryHeader, kind: TreeEntry["kind"]): string {
    const linkname = header.linkname ?? "";
    if (kind === "symlink") {
      if (linkname === "" || linkname.includes("\0")) {
        throw new DeploymentSourceError(`${shown(header.name)}: link target is empty or has a NUL byte`);
      }
      if (linkname.startsWith("/")) {
        throw new DeploymentSourceError(
          `${shown(header.name)}: links to the absolute path ${shown(linkname)}; links must stay in the project`,
        );
      }
      if (Buffer.byteLength(linkname) > this.#limits.maxPathBytes) {
        throw new DeploymentSourceError(
          `${shown(header.name)}: link target is longer than ${this.#limits.maxPathBytes} bytes`,
        );
      }
      return linkname;
    }
    if (kind !== "link") return "";
    const target = this.#normalise(linkname, `hard link target ${shown(linkname)}`);
    if (this.#nodes.get(target)?.kind !== "file") {
      throw new DeploymentSourceError(
        `${shown(header.name)}: hard link target ${shown(linkname)} is not an earlier file of the source`,
      );
    }
    return target;
  }

  /** T1: one entry a path; a folder met before as a parent may be listed once. */
  #claim(name: string, path: string, kind: TreeEntry["kind"], target: string): void {
    if (path === "" && kind !== "directory")
      throw new DeploymentSourceError(`${shown(name)}: the root must be a folder`);
    const before = this.#nodes.get(path);
    if (before !== undefined && !(before.implied && kind === "directory")) {
      throw new DeploymentSourceError(`${shown(name)}: is in the source twice`);
    }
    this.#nodes.set(path, { kind, target, implied: false });
  }

  #followLink(link: string): void {
    const leaves = () =>
      new DeploymentSourceError(
        `${shown(link)}: links out of the project, to ${shown(this.#nodes.get(link)?.target ?? "")}`,
      );
    let hops = 0;
    let at: string[] = [];
    const todo = link.split("/");
    for (let part = todo.shift(); part !== undefined; part = todo.shift()) {
      if (part === "" || part === ".") continue;
      if (part === "..") {
        if (at.length === 0) throw leaves();
        at = at.slice(0, -1);
        continue;
      }
      const node = this.#nodes.get([...at, part].join("/"));
      if (node?.kind !== "symlink") {
        at = [...at, part];
        continue;
      }
      hops += 1;
      if (hops > maxLinkHops)
        throw new DeploymentSourceError(`${shown(link)}: goes through more than ${maxLinkHops} links`);
      todo.unshift(...node.target.split("/"));
    }
  }
}

const words = { file: "file", directory: "folder", symlink: "symbolic link", link: "hard link" } as const;

/** T3. */
function kindOf(header: EntryHeader): TreeEntry["kind"] {
  switch (header.type) {
    case "file":
    case "contiguous-file":
      return "file";
    case "directory":
      return "directory";
    case "symlink":
      return "symlink";
    case "link":
      return "link";
    default:
      throw new DeploymentSourceError(
        `${shown(header.name)}: is a ${header.type ?? "special file"}; only files, folders and links can be deployed`,
      );
  }
}

/** A name made safe to print: quoted, control characters escaped, cut at 200 characters. */
function shown(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 200)}...` : name);
}
