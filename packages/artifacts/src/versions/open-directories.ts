/**
 * Directories of a tree by descriptor, the least recently used closed: a tree may be deeper than a process may have descriptors, and
 * longer than a path may be. Each is opened from its parent's descriptor, never through a link, and must be the one it was before.
 */
import { WorkspaceVersionError } from "./errors.ts";
import { close, openDirectory, openRoot, statOf } from "./syscalls.ts";

const openAtOnce = 200;

export interface DirectoryNode {
  readonly parent: DirectoryNode | undefined;
  /** latin1. */
  readonly name: string;
  readonly depth: number;
  /** Mount, device and inode, once it was opened. */
  identity?: string;
  fd?: number | undefined;
}

/** A directory is no longer where it was: removed, or something else is in its place. */
export class DirectoryChangedError extends Error {
  override readonly name = "DirectoryChangedError";
}

export class OpenDirectories {
  readonly root: DirectoryNode;
  readonly #folder: string;
  readonly #open = new Set<DirectoryNode>();

  constructor(folder: string) {
    this.#folder = folder;
    this.root = { parent: undefined, name: "", depth: 0, fd: openFolder(folder) };
  }

  /** Valid until the next call. */
  fd(node: DirectoryNode): number {
    if (node.fd !== undefined) {
      if (node.parent !== undefined) {
        this.#open.delete(node);
        this.#open.add(node);
      }
      return node.fd;
    }
    // From the nearest open one down, without recursion.
    const closed: DirectoryNode[] = [];
    let at: DirectoryNode = node;
    while (at.fd === undefined && at.parent !== undefined) {
      closed.push(at);
      at = at.parent;
    }
    let fd = this.fd(at);
    for (const next of closed.reverse()) {
      fd = openDirectory(fd, next.name);
      next.fd = fd;
      this.#open.add(next);
      const now = statOf(fd, "").toString("latin1", 24, 48);
      if (next.identity !== undefined && next.identity !== now) {
        this.close(next);
        throw new DirectoryChangedError("a directory was replaced meanwhile");
      }
      next.identity = now;
      for (const oldest of this.#open) {
        if (this.#open.size <= openAtOnce || oldest === next) break;
        this.close(oldest);
      }
    }
    return fd;
  }

  /** When nothing more is wanted from it for now. */
  close(node: DirectoryNode): void {
    if (node.fd === undefined) return;
    close(node.fd);
    node.fd = undefined;
    this.#open.delete(node);
  }

  /** Its descriptor anew, at the start of the directory. */
  reopenRoot(): number {
    this.close(this.root);
    const fd = openFolder(this.#folder);
    this.root.fd = fd;
    return fd;
  }

  closeAll(): void {
    for (const node of this.#open) this.close(node);
    this.close(this.root);
  }
}

function openFolder(folder: string): number {
  try {
    return openRoot(folder);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new WorkspaceVersionError("folder_unusable", `the folder ${folder} cannot be opened: ${why}`, {
      cause: error,
    });
  }
}
