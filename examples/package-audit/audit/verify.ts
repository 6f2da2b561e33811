/** Checks the package against its own claims: its declarations compile, or its published tests pass. */
import { access, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { type CommandResult, type Npm, tail } from "./command.ts";
import { listFiles } from "./files.ts";

export interface Verification {
  readonly kind: "types" | "tests" | "none";
  readonly status: "passed" | "failed" | "not possible";
  readonly detail: string;
}
export interface Subject {
  readonly name: string;
  /** The unpacked archive. */
  readonly sourceDir: string;
  /** Where it is installed as a dependency. */
  readonly installDir: string;
  /** The audit's own project: its TypeScript is found from there. */
  readonly projectDir: string;
}

const typeCheckTimeoutMs = 120_000;
const testTimeoutMs = 120_000;
const errorsShown = 20;

interface Manifest {
  readonly types?: unknown;
  readonly typings?: unknown;
  readonly exports?: unknown;
  readonly scripts?: Readonly<Record<string, string>>;
}

export async function verifyPackage(npm: Npm, subject: Subject): Promise<Verification> {
  const manifest = JSON.parse(await readFile(join(subject.sourceDir, "package.json"), "utf8")) as Manifest;
  if (await hasTypes(manifest, subject.sourceDir)) return checkTypes(npm, subject);
  const files = await listFiles(subject.sourceDir);
  const published = files.some(
    (path) => /(?:^|\/)(?:tests?|__tests__|spec)\//.test(path) || /^test\.[cm]?js$/.test(path),
  );
  if (manifest.scripts?.test !== undefined && published) return runTests(npm, subject);
  return { kind: "none", status: "not possible", detail: "it publishes neither type declarations nor tests" };
}

async function hasTypes(manifest: Manifest, dir: string): Promise<boolean> {
  if (typeof manifest.types === "string" || typeof manifest.typings === "string") return true;
  if (JSON.stringify(manifest.exports ?? null).includes('"types"')) return true;
  return access(join(dir, "index.d.ts")).then(
    () => true,
    () => false,
  );
}

/** A file that imports the package, compiled with the declarations of everything it pulls in. */
async function checkTypes(npm: Npm, subject: Subject): Promise<Verification> {
  const require = createRequire(join(subject.projectDir, "package.json"));
  const tsc = join(dirname(require.resolve("typescript/package.json")), "bin", "tsc");
  const typeRoots = [dirname(dirname(require.resolve("@types/node/package.json")))];
  const compilerOptions = {
    target: "es2024",
    lib: ["es2024", "dom"],
    module: "nodenext",
    noEmit: true,
    strict: true,
    skipLibCheck: false,
    types: ["node"],
    typeRoots,
  };
  await writeFile(
    join(subject.installDir, "subject.ts"),
    `import * as subject from ${JSON.stringify(subject.name)};\nexport type Subject = typeof subject;\n`,
  );
  await writeFile(
    join(subject.installDir, "tsconfig.json"),
    JSON.stringify({ compilerOptions, files: ["subject.ts"] }),
  );
  const result = await npm.run(["node", tsc, "-p", "."], {
    cwd: subject.installDir,
    timeoutMs: typeCheckTimeoutMs,
  });
  if (result.timedOut)
    return {
      kind: "types",
      status: "not possible",
      detail: `the compiler was not done after ${typeCheckTimeoutMs / 1000} s`,
    };
  return judgeTypes(result, subject.name);
}

/** Only errors in the package's own declarations, or in the import of it, are its own. */
export function judgeTypes(result: CommandResult, name: string): Verification {
  const errors = result.stdout.split("\n").filter((line) => /error TS\d+/.test(line));
  const own = errors.filter(
    (line) => line.startsWith(`node_modules/${name}/`) || line.startsWith("subject.ts"),
  );
  if (own.length > 0)
    return {
      kind: "types",
      status: "failed",
      detail: `${own.length} errors\n${own.slice(0, errorsShown).join("\n")}`,
    };
  if (result.exitCode !== 0 && errors.length === 0)
    return { kind: "types", status: "not possible", detail: tail(result) };
  const foreign = errors.length === 0 ? "" : ` (${errors.length} errors in declarations of others)`;
  return { kind: "types", status: "passed", detail: `its declarations compile${foreign}` };
}

/** The published test script, with development dependencies, which come without their scripts too. */
async function runTests(npm: Npm, subject: Subject): Promise<Verification> {
  const argv = ["npm", "install", "--ignore-scripts", "--include=dev", "--no-audit", "--no-fund"] as const;
  const installed = await npm.run(argv, { cwd: subject.sourceDir, timeoutMs: testTimeoutMs });
  if (installed.exitCode !== 0) {
    return {
      kind: "tests",
      status: "not possible",
      detail: `its development dependencies cannot be installed\n${tail(installed, 5)}`,
    };
  }
  const result = await npm.run(["npm", "test"], {
    cwd: subject.sourceDir,
    timeoutMs: testTimeoutMs,
    env: { CI: "true" },
  });
  if (result.exitCode === 0) return { kind: "tests", status: "passed", detail: tail(result, 5) };
  return { kind: "tests", status: "failed", detail: tail(result) };
}
