/** No core files: the memory of our processes holds keys and values of secrets. */
import { execa } from "execa";

/**
 * Set RLIMIT_CORE of this process, and of what it starts from now on, to 0. Node has no call for it, util-linux has
 * `prlimit`. Whether it is 0 now; false where the program is missing.
 */
export async function disableCoreDumps(): Promise<boolean> {
  const { failed } = await execa("prlimit", ["--core=0:0", "--pid", String(process.pid)], {
    reject: false,
    stdio: "ignore",
    timeout: 5_000,
  });
  return !failed;
}
