/**
 * Audits one npm package inside the sandbox: fetch, measure, scan, install, load, check; then a report in the workspace.
 *
 * Nothing of the package runs on the machine of whoever asks: its code is only ever imported or tested in here.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { image, logger, metadata, sandbox, source, task } from "@helmr/sdk";
import { createNpm } from "../audit/command.ts";
import { fetchPackage, resolvePackage } from "../audit/fetch.ts";
import { installPackage } from "../audit/install.ts";
import { probeLoad } from "../audit/load.ts";
import { measureFiles } from "../audit/measure.ts";
import { scanPatterns } from "../audit/patterns.ts";
import { payload } from "../audit/payload.ts";
import { renderMarkdown } from "../audit/render.ts";
import { type AuditReport, type AuditSummary, summarize } from "../audit/report.ts";
import { verifyPackage } from "../audit/verify.ts";

const box = sandbox("package-audit")
  .image(
    image("package-audit")
      .from("node:24-bookworm-slim")
      .workdir("/opt/helmr-task")
      .copy("/opt/helmr-task/package.json", source.file("package.json"))
      .run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund"]),
  )
  .workspace("/workspace")
  .resources({ cpu: 2, memory: "2Gi" })
  .network({ internet: true });

const steps = ["resolve", "fetch", "measure", "scan", "install", "load", "verify", "report"] as const;

function progress(step: (typeof steps)[number], text: string): void {
  metadata.patch({ step, steps_done: steps.indexOf(step), steps_total: steps.length });
  logger.info(`[${steps.indexOf(step) + 1}/${steps.length}] ${text}`);
}

export const packageAudit = task({
  id: "package-audit",
  sandbox: box,
  maxDuration: 600,
  payload,
  run: async (wanted, ctx): Promise<AuditSummary> => {
    const scratch = await mkdtemp(join(tmpdir(), "audit-"));
    try {
      const npm = createNpm({ scratch, signal: ctx.signal });
      progress("resolve", `looking up ${wanted.name}@${wanted.version}`);
      const found = await resolvePackage(npm, wanted);
      metadata.set("package", `${found.name}@${found.version}`);

      progress("fetch", `fetching ${found.name}@${found.version}`);
      const dir = await fetchPackage(npm, found, scratch);
      progress("measure", "measuring its files");
      const size = await measureFiles(dir);
      progress("scan", `looking through ${size.files} files for known-bad patterns`);
      const patterns = await scanPatterns(dir);
      progress("install", "installing its dependencies, without their scripts");
      const installed = await installPackage(npm, found, scratch);
      progress("load", "importing it once, to see what that alone does");
      const load = await probeLoad(npm, found.name, installed.dir);
      progress("verify", "checking its types, or its tests");
      const verification = await verifyPackage(npm, {
        name: found.name,
        sourceDir: dir,
        installDir: installed.dir,
        projectDir: ctx.workspace.projectPath,
      });

      progress("report", "writing the report");
      const report: AuditReport = {
        package: found,
        size,
        dependencies: installed.dependencies,
        patterns,
        load,
        verification,
      };
      const summary = summarize(report, {
        markdown: join(ctx.workspace.path, "report.md"),
        json: join(ctx.workspace.path, "report.json"),
      });
      await writeFile(summary.reports.json, `${JSON.stringify({ summary, ...report }, null, 2)}\n`);
      await writeFile(summary.reports.markdown, renderMarkdown(report, summary));
      metadata.patch({ step: "done", steps_done: steps.length, verdict: summary.verdict });
      logger.info(`${summary.package}: ${summary.verdict}; the report is ${summary.reports.markdown}`);
      return summary;
    } finally {
      await rm(scratch, { recursive: true, force: true });
    }
  },
});
