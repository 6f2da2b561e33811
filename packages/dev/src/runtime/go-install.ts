/** Building a Go program of a pinned version, leaving nothing in the user's own Go folders. */
import { join } from "node:path";
import { ExecaError, execa } from "execa";
import { RuntimeError } from "./context.ts";

const GO_TIMEOUT_MS = 15 * 60_000;

/** The name of the Go that would build, as `go1.26.8`. @throws RuntimeError where there is none. */
export async function goVersion(): Promise<string> {
  const go = await execa("go", ["version"], { reject: false, stdin: "ignore" });
  if (go.failed) throw new RuntimeError("Go is not installed (1.21 or newer is enough: https://go.dev/dl)");
  return go.stdout.split(" ")[2] ?? "go";
}

/**
 * Build `module@version` below the empty folder `scratch` and return the program's path. Modules are verified against Go's
 * checksum database.
 */
export async function goInstall(
  module: string,
  version: string,
  ldflags: string,
  scratch: string,
): Promise<string> {
  try {
    await execa("go", ["install", "-ldflags", ldflags, `${module}@${version}`], {
      stdin: "ignore",
      timeout: GO_TIMEOUT_MS,
      env: goEnvironment(scratch),
    });
  } catch (cause) {
    if (!(cause instanceof ExecaError)) throw cause;
    const said = String(cause.stderr).trim().split("\n").slice(-3).join("; ");
    throw new RuntimeError(`go install ${module}@${version} failed: ${said || cause.shortMessage}`, {
      cause,
    });
  }
  return join(scratch, "bin", module.slice(module.lastIndexOf("/") + 1));
}

function goEnvironment(scratch: string): Record<string, string> {
  return {
    CGO_ENABLED: "0",
    GOBIN: join(scratch, "bin"),
    GOPATH: join(scratch, "path"),
    GOCACHE: join(scratch, "cache"),
    GOMODCACHE: join(scratch, "modules"),
    GOFLAGS: "-modcacherw -trimpath",
    // A Go older than the module asks for fetches the one it needs.
    GOTOOLCHAIN: process.env.GOTOOLCHAIN ?? "auto",
  };
}
