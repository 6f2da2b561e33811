/**
 * Known-bad patterns in what a package publishes. A finding is a reason to look, not a proof: each rule says what it means,
 * and the report shows the line.
 */
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { isCode, listFiles } from "./files.ts";

export type Severity = "info" | "warning" | "danger";
export interface Finding {
  readonly rule: string;
  readonly severity: Severity;
  readonly meaning: string;
  /** How often, over all files. */
  readonly count: number;
  /** The first few places. */
  readonly places: readonly { readonly path: string; readonly line: number; readonly excerpt: string }[];
}

interface Rule {
  readonly id: string;
  readonly severity: Severity;
  readonly meaning: string;
  readonly matches: (line: string) => boolean;
}

const regex = (pattern: RegExp) => (line: string) => pattern.test(line);
/** Above this a line of code is either generated or hidden. */
const longLineChars = 2000;
/** Bundles are minified: only lines that are also full of escapes count as obfuscated. */
const escapes = /\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|_0x[0-9a-f]{4,}/gi;

export const rules: readonly Rule[] = [
  {
    id: "eval",
    severity: "warning",
    meaning: "runs text as code",
    matches: regex(/\beval\s*\(|\bnew\s+Function\s*\(|\bvm\.(?:runIn|Script)/),
  },
  {
    id: "child-process",
    severity: "warning",
    meaning: "starts other programs",
    matches: regex(/["'](?:node:)?child_process["']/),
  },
  {
    id: "network",
    severity: "info",
    meaning: "talks to the network",
    matches: regex(/["'](?:node:)?(?:https?|http2|net|tls|dgram)["']|\bfetch\s*\(|\bXMLHttpRequest\b/),
  },
  {
    id: "environment",
    severity: "info",
    meaning: "reads all environment variables at once",
    matches: regex(
      /JSON\.stringify\(\s*process\.env\s*\)|Object\.(?:keys|entries|values)\(\s*process\.env\s*\)/,
    ),
  },
  {
    id: "home-files",
    severity: "danger",
    meaning: "names files where credentials lie",
    matches: regex(/\.(?:npmrc|ssh\/|aws\/credentials|netrc|docker\/config)|\bid_rsa\b/),
  },
  {
    id: "hard-coded-address",
    severity: "warning",
    meaning: "names a host by its address",
    matches: regex(/https?:\/\/(?!127\.|0\.0\.0\.0)\d{1,3}(?:\.\d{1,3}){3}/),
  },
  {
    id: "base64-blob",
    severity: "warning",
    meaning: "carries a long base64 text",
    matches: regex(/["'`][A-Za-z0-9+/]{400,}={0,2}["'`]/),
  },
  {
    id: "obfuscated",
    severity: "danger",
    meaning: "hides its text in escapes",
    matches: (line) => (line.match(escapes)?.length ?? 0) > 80,
  },
  {
    id: "long-line",
    severity: "info",
    meaning: `has lines over ${longLineChars} characters (minified?)`,
    matches: (line) => line.length > longLineChars,
  },
  {
    id: "native-code",
    severity: "info",
    meaning: "loads native code",
    matches: regex(/\bprocess\.dlopen\b|\.node["']\s*\)/),
  },
];

const installScripts = ["preinstall", "install", "postinstall"] as const;
const readLimitBytes = 5 * 1024 * 1024;
const placesShown = 3;
const excerptChars = 120;

/** Findings by rule, most severe first. */
export async function scanPatterns(dir: string): Promise<Finding[]> {
  const found = new Map<string, { rule: Rule; count: number; places: Finding["places"][number][] }>();
  for (const path of (await listFiles(dir)).filter(isCode)) {
    const file = join(dir, path);
    if ((await stat(file)).size > readLimitBytes) continue;
    for (const [index, line] of (await readFile(file, "utf8")).split("\n").entries()) {
      for (const rule of rules) {
        if (!rule.matches(line)) continue;
        const entry = found.get(rule.id) ?? { rule, count: 0, places: [] };
        entry.count += 1;
        if (entry.places.length < placesShown)
          entry.places.push({ path, line: index + 1, excerpt: line.trim().slice(0, excerptChars) });
        found.set(rule.id, entry);
      }
    }
  }
  const findings = [...found.values()].map(({ rule: { id, severity, meaning }, count, places }) => ({
    rule: id,
    severity,
    meaning,
    count,
    places,
  }));
  return [...(await scanManifest(dir)), ...findings].sort(
    (a, b) => order[b.severity] - order[a.severity] || b.count - a.count,
  );
}

const order: Readonly<Record<Severity, number>> = { info: 0, warning: 1, danger: 2 };

/** Scripts that run when somebody installs the package. (`prepare` runs for git dependencies only.) */
async function scanManifest(dir: string): Promise<Finding[]> {
  const { scripts = {} } = JSON.parse(await readFile(join(dir, "package.json"), "utf8")) as {
    scripts?: Record<string, unknown>;
  };
  const given = installScripts.filter((name) => typeof scripts[name] === "string");
  if (given.length === 0) return [];
  const places = given.map((name) => ({
    path: "package.json",
    line: 0,
    excerpt: `${name}: ${String(scripts[name]).slice(0, excerptChars)}`,
  }));
  return [
    {
      rule: "install-script",
      severity: "danger",
      meaning: "runs a program when it is installed",
      count: given.length,
      places,
    },
  ];
}
