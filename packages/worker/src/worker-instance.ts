/** What makes a worker the same one across restarts: its id, and the key of the marks that stand for secrets. */
import { randomBytes, randomUUID } from "node:crypto";
import { chmod, mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";

export interface WorkerInstance {
  readonly id: string;
  /** Key of the HMACs in layer keys; leaves this host never. */
  readonly key: Buffer;
}

const stored = z.object({ worker_instance_id: z.uuid(), key: z.string().regex(/^[0-9a-f]{64}$/) });

/**
 * Read `<dataDir>/instance.json`, made at the first start. The folder is closed to other users: layers hold setuid
 * programs of images, owned by the host's root, and workspaces hold what tasks wrote.
 */
export async function readInstance(dataDir: string): Promise<WorkerInstance> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await chmod(dataDir, 0o700);
  const path = join(dataDir, "instance.json");
  const text = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (text !== undefined) {
    const { worker_instance_id, key } = stored.parse(JSON.parse(text));
    return { id: worker_instance_id, key: Buffer.from(key, "hex") };
  }
  const instance = { id: randomUUID(), key: randomBytes(32) };
  const record = { worker_instance_id: instance.id, key: instance.key.toString("hex") };
  await writeFile(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  await rename(`${path}.new`, path);
  return instance;
}
