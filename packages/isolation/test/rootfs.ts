/**
 * A small root filesystem for guests, copied from this machine: node, a shell, some tools and the libraries they need.
 * It needs no network and takes half a second; tests of Helmr's real images are elsewhere.
 */
import { chmod, copyFile, mkdir, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { execa } from "execa";

const tools = [
  "bash",
  "sh",
  "cat",
  "ls",
  "rm",
  "mkdir",
  "ln",
  "mv",
  "id",
  "env",
  "sleep",
  "hostname",
  "touch",
  "dd",
];

export async function buildTestRootfs(root: string): Promise<void> {
  for (const folder of ["usr/bin", "usr/lib", "etc", "root", "tmp", "home/author"]) {
    await mkdir(path.join(root, folder), { recursive: true });
  }
  for (const [link, target] of [
    ["bin", "usr/bin"],
    ["lib", "usr/lib"],
    ["lib64", "usr/lib"],
  ] as const) {
    await symlink(target, path.join(root, link));
  }
  const found = await execa("which", tools);
  const files = [process.execPath, ...found.stdout.split("\n")];
  for (const file of files) await copyProgram(file, root);
  await writeFile(
    path.join(root, "etc/passwd"),
    "root:x:0:0:root:/root:/bin/sh\nauthor:x:1000:1000::/home/author:/bin/sh\n",
  );
  await writeFile(path.join(root, "etc/group"), "root:x:0:\nauthor:x:1000:\n");
  await writeFile(path.join(root, "etc/from-image"), "image\n");
  await mkdir(path.join(root, "etc/doomed"));
  await writeFile(path.join(root, "etc/doomed/file"), "image\n");
}

async function copyProgram(file: string, root: string): Promise<void> {
  const target = path.join(root, "usr/bin", path.basename(file));
  await copyFile(file, target);
  await chmod(target, 0o755);
  const libraries = await execa("ldd", [file], { reject: false });
  for (const [, library = ""] of libraries.stdout.matchAll(/(\/\S+\.so\S*)/g)) {
    const inside = path.join(root, library.replace(/^\/(usr\/)?lib(64)?/, "/usr/lib"));
    await mkdir(path.dirname(inside), { recursive: true });
    await copyFile(library, inside);
  }
}
