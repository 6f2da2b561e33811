import { lstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { chmod, chown, mkdir, symlink, writeFile } from "node:fs/promises";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pullImage, resolveImage, verifyImage } from "../src/images/index.ts";
import { addressOf, makeLayout, serveRegistry } from "./registry.ts";

const TOKEN = Buffer.from("user:secret").toString("base64");

// Owners and device nodes need root, as the worker has it.
describe.skipIf(process.getuid?.() !== 0)("pulling from a registry", () => {
  const home = process.env.HOME;
  let folder = "";
  let open: Server;
  let closed: Server;
  const imagesDir = () => join(folder, "store");

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "pull-"));
    const [first, second] = [join(folder, "first"), join(folder, "second")];
    await mkdir(join(first, "etc"), { recursive: true });
    await mkdir(join(first, "usr/bin"), { recursive: true });
    await writeFile(join(first, "etc/removed"), "gone in the second layer");
    await writeFile(join(first, "usr/bin/tool"), "one");
    await mkdir(join(second, "usr/bin"), { recursive: true });
    await writeFile(join(second, "usr/bin/tool"), "two");
    await chown(join(second, "usr/bin/tool"), 1000, 1000);
    await chmod(join(second, "usr/bin/tool"), 0o4755);
    await symlink("/etc/passwd", join(second, "usr/link"));
    const config = [
      "--config.env",
      "A=1=2",
      "--config.user",
      "1000",
      "--config.workingdir",
      "/srv",
      "--config.cmd",
      "tool",
    ];
    const layout = join(folder, "layout");
    await makeLayout(layout, [{ add: first }, { add: second }, { remove: "/etc/removed" }], config);
    const zeros = join(folder, "zeros");
    await mkdir(zeros);
    await writeFile(join(zeros, "zeros"), Buffer.alloc(32 * 1024 * 1024));
    await makeLayout(join(folder, "bomb"), [{ add: zeros }]);
    open = await serveRegistry({ "acme/tool": layout, bomb: join(folder, "bomb") });
    closed = await serveRegistry({ private: layout }, TOKEN);
    const insecure = [open, closed].map(
      (server) => `[[registry]]\nlocation = "${addressOf(server)}"\ninsecure = true\n`,
    );
    await mkdir(join(folder, ".config/containers"), { recursive: true });
    writeFileSync(join(folder, ".config/containers/registries.conf"), insecure.join("\n"));
    process.env.HOME = folder; // where skopeo looks for the configuration first
  });
  afterAll(() => {
    if (home !== undefined) process.env.HOME = home;
    open?.close();
    closed?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("layers are merged, with owners, modes, removals and the image's configuration", async () => {
    const image = await pullImage(`${addressOf(open)}/acme/tool:1`, imagesDir());
    expect(image).toMatchObject({ env: { A: "1=2" }, user: "1000", workdir: "/srv", cmd: ["tool"] });
    expect(readFileSync(join(image.rootfs, "usr/bin/tool"), "utf8")).toBe("two");
    const stats = lstatSync(join(image.rootfs, "usr/bin/tool"));
    expect([stats.uid, stats.mode & 0o7777]).toEqual([1000, 0o4755]);
    expect(lstatSync(join(image.rootfs, "etc/removed"), { throwIfNoEntry: false })).toBeUndefined();
    expect(lstatSync(join(image.rootfs, "usr/link")).isSymbolicLink()).toBe(true);
    expect(await verifyImage(image, "full")).toBeUndefined();
    expect(await resolveImage(imagesDir(), image.name)).toEqual(image);
  });

  test("an unchanged image is not copied again, and a digest pulls the same image", async () => {
    const name = `${addressOf(open)}/acme/tool`;
    const image = await pullImage(`${name}:1`, imagesDir());
    expect(await pullImage(`${name}:1`, imagesDir())).toEqual(image);
    if (image.source.kind !== "registry") throw new Error("not from a registry");
    const byDigest = await pullImage(`${name}@${image.source.manifestDigest}`, imagesDir());
    expect(byDigest.digest).toBe(image.digest);
  });

  test("each refusal has its own code", async () => {
    const at = (server: Server, path: string) => `${addressOf(server)}/${path}`;
    await expect(pullImage(at(open, "nothing:1"), imagesDir())).rejects.toMatchObject({ code: "not_found" });
    await expect(pullImage(at(closed, "private:1"), imagesDir())).rejects.toMatchObject({
      code: "unauthorized",
    });
    await expect(pullImage("registry.invalid/x:1", imagesDir())).rejects.toMatchObject({
      code: "unreachable",
    });
    const small = { maxUnpackedBytes: 1024 * 1024 };
    await expect(pullImage(at(open, "bomb:1"), imagesDir(), small)).rejects.toMatchObject({
      code: "too_large",
    });
    expect(await resolveImage(imagesDir(), at(open, "bomb:1"))).toBeUndefined();
  });

  test("credentials come from the given file", async () => {
    const authFile = join(folder, "auth.json");
    writeFileSync(authFile, JSON.stringify({ auths: { [addressOf(closed)]: { auth: TOKEN } } }));
    const image = await pullImage(`${addressOf(closed)}/private:1`, imagesDir(), { authFile });
    expect(image.user).toBe("1000");
  });
});
