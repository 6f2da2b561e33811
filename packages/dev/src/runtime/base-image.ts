/**
 * The base image `node:24-bookworm-slim` under its own name in the image store: pulled where a registry answers, else
 * built to the same shape from Debian packages and npm.
 *
 * The build has what the official image has: Debian bookworm with the slim image's exclusions, Node with its headers,
 * npm and npx below /usr/local, a user `node` (1000:1000), `NODE_VERSION` set. It has no yarn and no entry script.
 */
import { chmod, cp, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type ImageConfig,
  importImage,
  PullError,
  pullImage,
  resolveImage,
  type StoredImage,
  verifyImage,
  withFileLock,
} from "@helmr/artifacts/images";
import { ExecaError, execa } from "execa";
import { asRoot, isRoot, type RuntimeContext, RuntimeError, reason } from "./context.ts";
import { fetchPackage } from "./npm-package.ts";
import pins from "./pins.json" with { type: "json" };
import { ensureImageBuildPackages } from "./system-packages.ts";

/** A changed recipe builds the image anew. */
const recipe = `Debian ${pins.baseImage.suite}, node ${pins.node.version}, npm ${pins.npm.version}, layout 1`;

/** What Debian's slim images leave out, and what only this host's build would write. */
const excluded = [
  "/usr/share/man/*",
  "/usr/share/doc/*",
  "/usr/share/info/*",
  "/usr/share/locale/*",
  "/usr/share/groff/*",
  "/usr/share/lintian/*",
  "/usr/share/linda/*",
];
const buildTraces = [
  "etc/machine-id",
  "etc/passwd-",
  "etc/group-",
  "etc/shadow-",
  "etc/gshadow-",
  "etc/hostname",
  "etc/resolv.conf",
  "var/cache/ldconfig/aux-cache",
  "var/cache/apt",
  "var/lib/apt/lists",
  "var/log/apt",
  "var/log/dpkg.log",
  "var/log/alternatives.log",
  "var/log/bootstrap.log",
];

const BUILD_TIMEOUT_MS = 10 * 60_000;
/** A host without a way to a registry mostly says so at once; a firewall that drops packets does not. */
const REGISTRY_ANSWER_MS = 8_000;

/** Debian's files, in a mount namespace of their own: whatever ends the build, no mount is left on the host. */
async function bootstrapDebian(target: string): Promise<void> {
  const mirror = process.env.HELMR_DEBIAN_MIRROR;
  const mmdebstrap = [
    "mmdebstrap",
    "--mode=root",
    "--variant=minbase",
    "--include=ca-certificates",
    ...excluded.map((path) => `--dpkgopt=path-exclude=${path}`),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    '--customize-hook=chroot "$1" groupadd --gid 1000 node',
    '--customize-hook=chroot "$1" useradd --uid 1000 --gid node --shell /bin/bash --create-home node',
    pins.baseImage.suite,
    target,
    ...(mirror ? [mirror] : []),
  ];
  await execa("unshare", ["--mount", "--propagation", "private", ...mmdebstrap], {
    stdin: "ignore",
    timeout: BUILD_TIMEOUT_MS,
    env: { SOURCE_DATE_EPOCH: "0", TMPDIR: "/tmp" },
  });
}

async function addNode(root: string, architecture: "x64" | "arm64", scratch: string): Promise<void> {
  const pin = { ...pins.node.packages[architecture], version: pins.node.version };
  const unpacked = await fetchPackage(pin, join(scratch, "node"));
  await mkdir(join(root, "usr/local/include"), { recursive: true });
  await cp(join(unpacked, "bin/node"), join(root, "usr/local/bin/node"));
  await chmod(join(root, "usr/local/bin/node"), 0o755);
  await cp(join(unpacked, "include/node"), join(root, "usr/local/include/node"), { recursive: true });
  await symlink("node", join(root, "usr/local/bin/nodejs"));
}

async function addNpm(root: string, scratch: string): Promise<void> {
  const unpacked = await fetchPackage({ name: "npm", ...pins.npm }, join(scratch, "npm"));
  const modules = join(root, "usr/local/lib/node_modules");
  await mkdir(modules, { recursive: true });
  await cp(unpacked, join(modules, "npm"), { recursive: true });
  for (const name of ["npm", "npx"]) {
    await chmod(join(modules, `npm/bin/${name}-cli.js`), 0o755);
    await symlink(`../lib/node_modules/npm/bin/${name}-cli.js`, join(root, "usr/local/bin", name));
  }
}

async function build(context: RuntimeContext, scratch: string): Promise<StoredImage> {
  if (!isRoot())
    throw new RuntimeError(
      `building the image ${pins.baseImage.name} needs root. Start it with\n  ${asRoot}`,
    );
  await ensureImageBuildPackages(context);
  context.log(`building ${pins.baseImage.name} from Debian packages and npm (about half a minute)`);
  const rootfs = join(scratch, "rootfs");
  await mkdir(rootfs, { recursive: true });
  await bootstrapDebian(rootfs);
  await addNode(rootfs, context.architecture, scratch);
  await addNpm(rootfs, scratch);
  for (const path of buildTraces) await rm(join(rootfs, path), { recursive: true, force: true });
  // apt-get expects its folders, and writes "partial" into them itself.
  for (const path of ["var/cache/apt/archives/partial", "var/lib/apt/lists/partial", "var/log/apt"]) {
    await mkdir(join(rootfs, path), { recursive: true });
  }
  for (const path of ["etc/resolv.conf", "etc/hostname"]) await writeFile(join(rootfs, path), "");
  await execa("chroot", [rootfs, "/usr/local/bin/node", "--eval", "0"], {
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    extendEnv: false,
  });
  const config: ImageConfig = {
    env: {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      NODE_VERSION: pins.node.version,
    },
    user: "",
    workdir: "",
    cmd: ["node"],
    architecture: context.architecture,
  };
  return importImage(context.imagesDir, { name: pins.baseImage.name, rootfs, config, recipe, move: true });
}

async function usable(context: RuntimeContext): Promise<StoredImage | undefined> {
  const stored = await resolveImage(context.imagesDir, pins.baseImage.name);
  if (stored === undefined || (stored.source.kind === "import" && stored.source.recipe !== recipe))
    return undefined;
  const wrong = await verifyImage(stored, "quick");
  if (wrong === undefined) return stored;
  context.log(`the stored image ${pins.baseImage.name} is damaged (${wrong}); making it anew`);
  // The folder of a damaged tree must not be taken for the new one, which may well have the same digest.
  await rm(join(stored.rootfs, ".."), { recursive: true, force: true });
  return undefined;
}

/** The base image, pulled or built on first use (16 s for Debian's part here), its files' list checked at each. */
export async function ensureBaseImage(context: RuntimeContext): Promise<StoredImage> {
  const scratch = join(context.imagesDir, ".base-build");
  const before = await resolveImage(context.imagesDir, pins.baseImage.name);
  const ready = before && (await usable(context));
  if (ready) return ready;
  return withFileLock(`${scratch}.lock`, async () => {
    const made = await usable(context);
    if (made) return made;
    try {
      context.log(`looking for ${pins.baseImage.name} in a registry`);
      return await pullImage(pins.baseImage.name, context.imagesDir, {
        connectTimeoutMs: REGISTRY_ANSWER_MS,
      });
    } catch (error) {
      if (!(error instanceof PullError)) throw error;
      context.log(`no registry has it for us: ${reason(error)}`);
    }
    await rm(scratch, { recursive: true, force: true });
    try {
      return await build(context, scratch);
    } catch (cause) {
      if (!(cause instanceof ExecaError)) throw cause;
      const said = String(cause.stderr).trim().split("\n").slice(-8).join("\n");
      throw new RuntimeError(`building ${pins.baseImage.name} failed: ${cause.shortMessage}\n${said}`, {
        cause,
      });
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  });
}
