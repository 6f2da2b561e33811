/** What only tests need: servers that Helmr speaks to in production. */
import { type RuntimeContext, RuntimeError } from "./context.ts";
import { ensureTestPrograms } from "./system-packages.ts";
import { ensureValkey } from "./valkey.ts";
import { ensureVersitygw } from "./versitygw.ts";

export { ensureVersitygw } from "./versitygw.ts";

/** Have all of it. @throws RuntimeError that names everything that is missing and cannot be installed. */
export async function ensureTestPackages(context: Pick<RuntimeContext, "log">): Promise<void> {
  const problems: string[] = [];
  for (const ensure of [ensureTestPrograms, ensureValkey, ensureVersitygw]) {
    await ensure(context).catch((error: unknown) => {
      if (!(error instanceof RuntimeError)) throw error;
      problems.push(error.message);
    });
  }
  if (problems.length > 0) throw new RuntimeError(problems.join("\n"));
}
