/** The report for people. */
import type { AuditReport, AuditSummary } from "./report.ts";

export function renderMarkdown(report: AuditReport, summary: AuditSummary): string {
  const { size, dependencies, load, verification } = report;
  return `# ${summary.package}

${report.package.description || "No description."} License: ${report.package.license}.

**${summary.verdict}**

${summary.reasons.map((reason) => `- ${reason}`).join("\n") || "No rule found anything above information."}

## Size

${size.files} files, ${size.lines} lines, ${size.bytes} bytes.

${table(
  ["kind", "files", "lines"],
  size.byExtension.slice(0, 10).map((kind) => [kind.extension, kind.files, kind.lines]),
)}

Largest: ${size.largest.map((file) => `${code(file.path)} (${file.bytes} bytes)`).join(", ")}.

## Dependencies

${dependencies.direct} direct, ${dependencies.transitive} in all.

${dependencies.names.map((name) => `- ${code(name)}`).join("\n")}

## Patterns

${report.patterns.map(finding).join("\n") || "None of the known ones."}

## When it is imported

${load.status}, ${load.exports} exports. ${load.detail === undefined ? "" : `\n\n${block(load.detail)}`}

## ${verification.kind === "none" ? "Check" : `Check of its ${verification.kind}`}

${verification.status}

${block(verification.detail)}
`;
}

function finding(found: AuditReport["patterns"][number]): string {
  const places = found.places.map(
    (place) => `  - ${code(`${place.path}:${place.line}`)} ${code(place.excerpt)}`,
  );
  return [`- **${found.rule}** (${found.severity}): ${found.meaning}, ${found.count} times`, ...places].join(
    "\n",
  );
}

function table(head: readonly string[], rows: readonly (readonly (string | number)[])[]): string {
  const line = (cells: readonly (string | number)[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** Text of the package itself: never markup. */
const code = (text: string): string => `\`\` ${text.replaceAll("`", "'").replaceAll(/\s+/g, " ")} \`\``;
const block = (text: string): string =>
  text
    .split("\n")
    .map((line) => `    ${line}`)
    .join("\n");
