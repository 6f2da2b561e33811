/**
 * Which checkpoints this worker has put into the artifact store without knowing that the control plane refers to them: a
 * file per digest, with the lease it was saved under.
 *
 *  I1  A digest is noted before its bytes can be found in the store, so that no crash leaves one that nobody knows.
 *  I2  It is forgotten when the control plane refers to it, or it was removed, or the control plane took it over.
 */
import { mkdir, open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";

export interface NotedUpload {
  readonly digest: string;
  readonly leaseId: string;
}

export class UploadJournal {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  /** I1 */
  async note({ digest, leaseId }: NotedUpload): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const path = this.#path(digest);
    const file = await open(`${path}.new`, "w", 0o600);
    try {
      await file.writeFile(leaseId);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(`${path}.new`, path);
  }

  /** I2 */
  async forget(digest: string): Promise<void> {
    await rm(this.#path(digest), { force: true });
  }

  async noted(): Promise<NotedUpload[]> {
    const names = await readdir(this.#dir).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return [];
      throw error;
    });
    const uploads: NotedUpload[] = [];
    for (const name of names) {
      if (!/^[0-9a-f]{64}$/.test(name)) continue;
      const leaseId = await readFile(join(this.#dir, name), "utf8").catch(() => undefined);
      if (leaseId !== undefined) uploads.push({ digest: `sha256:${name}`, leaseId });
    }
    return uploads;
  }

  #path(digest: string): string {
    return join(this.#dir, digest.replace("sha256:", ""));
  }
}
