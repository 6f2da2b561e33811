/**
 * A release that a person has to approve: prepares it, asks, waits (parked, so at no cost), and does what was decided.
 */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { image, logger, metadata, sandbox, streams, task, tokens } from "@helmr/sdk";
import { readDecision, release } from "./release.ts";

const box = sandbox("approval")
  .image(image("approval").from("node:24-bookworm-slim"))
  .workspace("/workspace")
  .resources({ cpu: 1, memory: "512Mi" })
  .network({ internet: false });

/** What somebody has to decide, with the link to do it. Reading it takes the right to read the session's streams. */
interface Request {
  readonly title: string;
  readonly link: string;
  readonly answerBefore: string | null;
}
const requests = streams.output<Request>("approval-requests");

type Outcome = "released" | "rejected" | "expired" | "withdrawn";

export const approval = task({
  id: "approval",
  sandbox: box,
  // Counts the time at work, not the time parked.
  maxDuration: 300,
  payload: release,
  run: async ({ version, changes, timeout, page }, ctx) => {
    const notes = `# ${version}\n\n${changes.map((change) => `- ${change}`).join("\n")}\n`;
    await writeFile(join(ctx.workspace.path, "release-notes.md"), notes);

    // The page shows the metadata, as Helmr keeps it: a link that was tampered with shows the same text.
    const title = `Release ${version}`;
    const token = await tokens.create({
      timeout,
      tags: ["approval"],
      metadata: { title, details: notes },
    });
    // Behind the #, so that no server on the way gets the secret. Not logged: who has the link can approve.
    const link = `${page}/#${token.id}.${token.publicAccessToken}`;
    await requests.append({ title, link, answerBefore: token.timeoutAt });
    logger.info(`${title}: asked for approval, until ${token.timeoutAt}`);
    metadata.set("state", "asked");

    const asked = { at: Date.now(), pid: process.pid };
    const answer = await token.wait({ tags: ["approval"], metadata: { title } });
    const waitedSeconds = Math.round((Date.now() - asked.at) / 1000);

    const end = async (outcome: Outcome, by: string | null, comment: string) => {
      if (outcome === "released") {
        // Here the real thing would be called, with `version` as its idempotency key: if the machine is lost after the
        // call and before the run's end, the run goes on from its checkpoint and calls again.
        await writeFile(join(ctx.workspace.path, "released.json"), JSON.stringify({ version, by }));
      }
      metadata.set("state", outcome);
      logger.info(`${title}: ${outcome}${by === null ? "" : ` by ${by}`}`);
      return { outcome, by, comment, waitedSeconds, sameProcess: process.pid === asked.pid };
    };

    if (!answer.ok) {
      if (answer.error.name === "WaitTimeoutError")
        return end("expired", null, `nobody answered in ${timeout}`);
      if (answer.error.name === "WaitCancelledError")
        return end("withdrawn", null, "the token was cancelled");
      throw answer.error;
    }
    const decision = readDecision(answer.data);
    if (decision === undefined) return end("rejected", null, "the answer was not a decision");
    return end(decision.approved ? "released" : "rejected", decision.by, decision.comment);
  },
});
