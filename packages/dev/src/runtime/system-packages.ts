/** Programs of the operating system that guests, images and builds need, and how each distribution calls them. */
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { execa } from "execa";
import { asRoot, isRoot, type RuntimeContext, RuntimeError } from "./context.ts";

interface Need {
  /** A program on PATH or in the administrator's folders, or an absolute file. */
  readonly proof: string;
  readonly debian: string;
  readonly fedora: string;
  readonly arch: string;
}

const needs: readonly Need[] = [
  { proof: "ip", debian: "iproute2", fedora: "iproute", arch: "iproute2" },
  { proof: "nft", debian: "nftables", fedora: "nftables", arch: "nftables" },
  { proof: "mkfs.ext4", debian: "e2fsprogs", fedora: "e2fsprogs", arch: "e2fsprogs" },
  { proof: "flock", debian: "util-linux", fedora: "util-linux-core", arch: "util-linux" },
  { proof: "tar", debian: "tar", fedora: "tar", arch: "tar" },
  { proof: "git", debian: "git", fedora: "git", arch: "git" },
  { proof: "skopeo", debian: "skopeo", fedora: "skopeo", arch: "skopeo" },
  { proof: "umoci", debian: "umoci", fedora: "umoci", arch: "umoci" },
];

/** Needed only to build the base image where no registry answers. */
const imageBuildNeeds: readonly Need[] = [
  { proof: "mmdebstrap", debian: "mmdebstrap", fedora: "mmdebstrap", arch: "mmdebstrap" },
  {
    proof: "/usr/share/keyrings/debian-archive-keyring.gpg",
    debian: "debian-archive-keyring",
    fedora: "debian-keyring",
    arch: "debian-archive-keyring",
  },
];

/** Needed only by tests: rate limits are counted in a real Redis. */
const testNeeds: readonly Need[] = [
  { proof: "redis-server", debian: "redis-server", fedora: "redis", arch: "redis" },
];

const valkey: Need = {
  proof: "valkey-server",
  debian: "valkey-server",
  fedora: "valkey",
  arch: "valkey",
};

const debianCertificates: Need = {
  proof: "/etc/ssl/certs/ca-certificates.crt",
  debian: "ca-certificates",
  fedora: "ca-certificates",
  arch: "ca-certificates",
};

/** The folders of administrators' programs are not on every user's PATH. */
function isThere(proof: string): boolean {
  if (proof.startsWith("/")) return existsSync(proof);
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  return folders.some((folder) => existsSync(join(folder, proof)));
}

/** Which of the three families of distributions this is, by /etc/os-release. */
async function family(): Promise<"debian" | "fedora" | "arch" | "other"> {
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  const ids = [...release.matchAll(/^(?:ID|ID_LIKE)="?([^"\n]*)"?$/gm)].flatMap(
    ([, value]) => value?.split(" ") ?? [],
  );
  if (ids.includes("debian") || ids.includes("ubuntu")) return "debian";
  if (ids.includes("fedora") || ids.includes("rhel")) return "fedora";
  return ids.includes("arch") ? "arch" : "other";
}

async function aptInstall(packages: readonly string[], log: (line: string) => void): Promise<void> {
  log(`installing with apt-get: ${packages.join(" ")}`);
  const options = {
    stdin: "ignore",
    timeout: 10 * 60_000,
    env: { DEBIAN_FRONTEND: "noninteractive" },
    all: true,
  } as const;
  // Another apt-get may be at work: wait for its lock instead of failing.
  const wait = ["-o", "DPkg::Lock::Timeout=300", "-qq"];
  await execa("apt-get", [...wait, "update"], options);
  await execa("apt-get", [...wait, "install", "-y", "--no-install-recommends", ...packages], options);
}

/** Install packages with apt-get. @throws RuntimeError with its last lines. */
export async function installDebianPackages(
  packages: readonly string[],
  log: (line: string) => void,
): Promise<void> {
  try {
    await aptInstall(packages, log);
  } catch (cause) {
    const said = (cause as { all?: string }).all ?? String(cause);
    const tail = said.trim().split("\n").slice(-8).join("\n");
    throw new RuntimeError(
      `apt-get could not install what is missing:\n${tail}\nInstall it and start again:\n  apt-get install -y ${packages.join(" ")}`,
      { cause },
    );
  }
}

/** Whether packages can be installed here without asking anyone. */
export async function canInstallDebianPackages(): Promise<boolean> {
  return isRoot() && (await family()) === "debian";
}

async function ensure(list: readonly Need[], context: Pick<RuntimeContext, "log">): Promise<void> {
  const missing = list.filter(({ proof }) => !isThere(proof));
  if (missing.length === 0) return;
  const system = await family();
  const debian = missing.map((need) => need.debian);
  if (system === "debian" && isRoot()) return installDebianPackages(debian, context.log);
  const commands = {
    debian: `apt-get install -y ${debian.join(" ")}`,
    fedora: `dnf install -y ${missing.map((need) => need.fedora).join(" ")}`,
    arch: `pacman -S --needed ${missing.map((need) => need.arch).join(" ")}`,
  };
  const sudo = isRoot() ? "" : "sudo ";
  const command =
    system === "other"
      ? Object.values(commands)
          .map((line) => `  ${sudo}${line}`)
          .join("\n")
      : `  ${sudo}${commands[system]}`;
  const root = isRoot()
    ? ""
    : `\nGuests need root as well; this does both on Debian and Ubuntu:\n  ${asRoot}`;
  throw new RuntimeError(
    `these programs are missing: ${missing.map(({ proof }) => proof).join(", ")}. Install them with\n${command}${root}`,
  );
}

/** Have the programs that every start needs; with apt-get as root on Debian and Ubuntu, else one message names them. */
export async function ensureSystemPackages(context: RuntimeContext): Promise<void> {
  const certificates = (await family()) === "debian" ? [debianCertificates] : [];
  await ensure([...needs, ...certificates], context);
}

/** Have the programs that build the base image. */
export async function ensureImageBuildPackages(context: RuntimeContext): Promise<void> {
  await ensure(imageBuildNeeds, context);
}

/** Have the distribution's programs that only tests need. @throws RuntimeError that names them, where they cannot be installed. */
export async function ensureTestPrograms(context: Pick<RuntimeContext, "log">): Promise<void> {
  await ensure(testNeeds, context);
}

/** Have Valkey as the distribution's package. @throws RuntimeError that names it, where it cannot be installed. */
export async function ensureValkeyPackage(context: Pick<RuntimeContext, "log">): Promise<void> {
  await ensure([valkey], context);
}
