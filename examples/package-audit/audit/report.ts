/** What an audit found, and the short form of it that the run returns. */
import type { FoundPackage } from "./fetch.ts";
import type { Dependencies } from "./install.ts";
import type { Load } from "./load.ts";
import type { Size } from "./measure.ts";
import type { Finding } from "./patterns.ts";
import type { Verification } from "./verify.ts";

export interface AuditReport {
  readonly package: FoundPackage;
  readonly size: Size;
  readonly dependencies: Dependencies;
  readonly patterns: readonly Finding[];
  readonly load: Load;
  readonly verification: Verification;
}

export type Verdict = "nothing suspicious" | "worth a look" | "suspicious";

export interface AuditSummary {
  /** `name@version`. */
  readonly package: string;
  readonly verdict: Verdict;
  readonly reasons: readonly string[];
  readonly files: number;
  readonly lines: number;
  readonly bytes: number;
  readonly dependencies: { readonly direct: number; readonly transitive: number };
  readonly verification: string;
  readonly reports: { readonly markdown: string; readonly json: string };
}

export function summarize(report: AuditReport, reports: AuditSummary["reports"]): AuditSummary {
  const reasons = [
    ...report.patterns
      .filter(({ severity }) => severity !== "info")
      .map(({ rule, meaning, count }) => `${rule}: ${meaning} (${count})`),
    ...report.load.reachedFor.map((what) => `reaches for ${what} when it is imported`),
    ...(report.load.status === "loaded" ? [] : [`import ${report.load.status}`]),
    ...(report.verification.status === "failed" ? [`its ${report.verification.kind} fail`] : []),
    ...report.dependencies.withInstallScripts.map((name) => `${name} has an install script`),
  ];
  const isSuspicious =
    report.load.reachedFor.length > 0 || report.patterns.some(({ severity }) => severity === "danger");
  return {
    package: `${report.package.name}@${report.package.version}`,
    verdict: isSuspicious ? "suspicious" : reasons.length > 0 ? "worth a look" : "nothing suspicious",
    reasons,
    files: report.size.files,
    lines: report.size.lines,
    bytes: report.size.bytes,
    dependencies: { direct: report.dependencies.direct, transitive: report.dependencies.transitive },
    verification: `${report.verification.kind}: ${report.verification.status}`,
    reports,
  };
}
