/**
 * The layer every guest of an image gets on top of it: host name, resolver, CA bundle, and a mount point for each mount
 * that the image has no entry for. It is an overlay's topmost read-only lower, so the image stays as it is, a guest may
 * replace these files like any others (`update-ca-certificates` renames over the bundle, which a bind mount forbids),
 * and an image build's captured layer holds none of them.
 */
import { chmod, chown, lstat, mkdir, readFile, readlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { errorCode, IsolationError } from "../errors.ts";
import { GATEWAY_ADDRESS } from "./netns.ts";

export const guestHostname = "helmr-sandbox";
/** The merged bundle under a name that no package replaces; what the environment variables point to. */
export const guestCaBundlePath = "/etc/helmr/ca-bundle.crt";

/** Where distributions keep their bundle: Debian and Alpine, Fedora and RHEL, OpenSSL's default, SUSE. */
const bundlePaths = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/cert.pem",
  "/etc/ssl/ca-bundle.pem",
];

/** Tools that bring their own certificates and the variable each reads. */
const caVariables = [
  "SSL_CERT_FILE",
  "NODE_EXTRA_CA_CERTS",
  "CURL_CA_BUNDLE",
  "REQUESTS_CA_BUNDLE",
  "PIP_CERT",
  "GIT_SSL_CAINFO",
  "CARGO_HTTP_CAINFO",
  "AWS_CA_BUNDLE",
  "DENO_CERT",
];

export interface MountPoint {
  readonly destination: string;
  readonly kind: "directory" | "file";
}

export interface GuestBaseOptions {
  /** The image's root filesystem. */
  readonly root: string;
  /** An empty folder that becomes the layer. */
  readonly base: string;
  readonly mountPoints: readonly MountPoint[];
  /** PEM text of the certificates guests trust in addition to the image's. */
  readonly extraCaPem: string | undefined;
}

export function caEnvironment(): Record<string, string> {
  return Object.fromEntries(caVariables.map((name) => [name, guestCaBundlePath]));
}

export async function writeGuestBase(options: GuestBaseOptions): Promise<void> {
  const layer = new LayerWriter(options.root, options.base);
  await layer.file("/etc/hostname", `${guestHostname}\n`);
  await layer.file("/etc/hosts", `127.0.0.1\tlocalhost ${guestHostname}\n::1\tlocalhost\n`);
  await layer.file("/etc/resolv.conf", `nameserver ${GATEWAY_ADDRESS}\noptions timeout:3 attempts:2\n`);
  if (options.extraCaPem !== undefined) await writeCaBundles(layer, options.extraCaPem);
  const standard = ["/proc", "/sys", "/dev", "/tmp", "/run", "/dev/shm"];
  for (const destination of standard) await layer.mountPoint({ destination, kind: "directory" });
  for (const mountPoint of options.mountPoints) await layer.mountPoint(mountPoint);
}

async function writeCaBundles(layer: LayerWriter, extraCaPem: string): Promise<void> {
  const [standard = ""] = bundlePaths;
  let merged: string | undefined;
  for (const bundle of bundlePaths) {
    const own = await layer.readImageFile(bundle);
    if (own === undefined) continue;
    merged = `${own.trimEnd()}\n${extraCaPem.trimEnd()}\n`;
    await layer.file(bundle, merged);
  }
  if (merged === undefined) await layer.file(standard, extraCaPem);
  await layer.file(guestCaBundlePath, merged ?? extraCaPem);
  if ((await layer.resolve("/etc/apt")).entry === "directory") {
    await layer.file("/etc/apt/apt.conf.d/99helmr-ca", `Acquire::https::CAInfo "${guestCaBundlePath}";\n`);
  }
}

interface Resolved {
  /** Absolute path in the image after its symbolic links. */
  readonly path: string;
  readonly entry: "directory" | "file" | "missing";
}

const symlinkLimit = 40;

/** Writes into the layer, following the image's symbolic links inside the image's root and nowhere else. */
class LayerWriter {
  readonly #root: string;
  readonly #base: string;

  constructor(root: string, base: string) {
    this.#root = root;
    this.#base = base;
  }

  async resolve(target: string): Promise<Resolved> {
    let rest = target.split("/").filter(Boolean);
    let current = "/";
    for (let links = 0; rest.length > 0; ) {
      const [name = "", ...following] = rest;
      rest = following;
      if (name === "." || name === "..") {
        current = name === "." ? current : path.posix.dirname(current);
        continue;
      }
      const next = path.posix.join(current, name);
      const stat = await this.#stat(next);
      if (stat === undefined) return { path: path.posix.join(next, ...rest), entry: "missing" };
      if (stat.isSymbolicLink()) {
        links += 1;
        if (links > symlinkLimit)
          throw new IsolationError("filesystem", `${target} in the image is a loop of links`);
        const link = await readlink(this.#root + next);
        rest = [...link.split("/").filter(Boolean), ...rest];
        if (link.startsWith("/")) current = "/";
        continue;
      }
      current = next;
      if (rest.length === 0) return { path: current, entry: stat.isDirectory() ? "directory" : "file" };
      if (!stat.isDirectory())
        throw new IsolationError("filesystem", `${current} in the image is no directory`);
    }
    return { path: current, entry: "directory" };
  }

  async readImageFile(target: string): Promise<string | undefined> {
    const resolved = await this.resolve(target);
    if (resolved.entry !== "file") return undefined;
    const stat = await lstat(this.#root + resolved.path);
    return stat.isFile() && stat.size < 8 << 20 ? readFile(this.#root + resolved.path, "utf8") : undefined;
  }

  /** A file at `target`; a link there is replaced, links above it are followed. */
  async file(target: string, content: string): Promise<void> {
    const parent = await this.resolve(path.posix.dirname(target));
    const destination = path.posix.join(parent.path, path.posix.basename(target));
    await this.#parents(destination);
    await writeFile(this.#base + destination, content, { mode: 0o644 });
  }

  async mountPoint({ destination, kind }: MountPoint): Promise<void> {
    const resolved = await this.resolve(destination);
    if (resolved.entry !== "missing") {
      if (resolved.entry === kind) return;
      throw new IsolationError(
        "spec",
        `cannot mount a ${kind} on ${destination}: the image has a ${resolved.entry} there`,
      );
    }
    await this.#parents(resolved.path);
    if (kind === "directory") await mkdir(this.#base + resolved.path, { recursive: true });
    else await writeFile(this.#base + resolved.path, "", { flag: "a" });
  }

  /** The topmost layer decides mode and owner of a merged directory, so the image's are repeated. */
  async #parents(target: string): Promise<void> {
    let current = "";
    for (const part of path.posix.dirname(target).split("/").filter(Boolean)) {
      current = `${current}/${part}`;
      const stat = await this.#stat(current);
      try {
        await mkdir(this.#base + current);
        if (stat !== undefined) {
          await chown(this.#base + current, stat.uid, stat.gid);
          await chmod(this.#base + current, stat.mode & 0o7777); // mkdir's mode passes through the umask.
        }
      } catch (error) {
        if (errorCode(error) !== "EEXIST") throw error;
      }
    }
  }

  async #stat(target: string) {
    return lstat(this.#root + target).catch((error) => {
      if (errorCode(error) === "ENOENT") return undefined;
      throw error;
    });
  }
}
