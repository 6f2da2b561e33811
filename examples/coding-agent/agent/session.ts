/** The agent's life: take an instruction, work on it, say what happens, and wait for the next one, parked. */
import { cp } from "node:fs/promises";
import { join } from "node:path";
import { logger, metadata, streams, type TaskContext } from "@helmr/sdk";
import { Memory } from "./memory.ts";
import type { Model } from "./model.ts";
import { instruction, type Options } from "./schemas.ts";
import { type Detail, listFiles } from "./tools.ts";
import { type Activity, takeTurn } from "./turn.ts";

const instructions = streams.input("instructions", { schema: instruction });
const activities = streams.output<Activity>("activity");

export interface Summary {
  readonly turns: number;
  readonly reason: string;
  readonly files: readonly string[];
}

/** Ends when it is told to, or when no instruction came for `idleTimeout`. */
export async function converse(
  model: Model,
  { idleTimeout }: Required<Options>,
  ctx: TaskContext,
): Promise<Summary> {
  const workspace = ctx.workspace.path;
  const memory = await Memory.open(workspace);
  // The first run of a session finds an empty workspace; the later ones find what was done.
  if ((await listFiles(workspace)).length === 0)
    await cp(join(ctx.workspace.projectPath, "project"), workspace, { recursive: true });
  await say({ type: "ready", files: await listFiles(workspace) });

  let turns = 0;
  const end = async (reason: string): Promise<Summary> => {
    metadata.patch({ state: "ended", turns });
    await say({ type: "ended", reason, turns });
    return { turns, reason, files: await listFiles(workspace) };
  };
  for (;;) {
    metadata.patch({ state: "waiting", turns });
    // Parks after a few seconds: no process and no memory anywhere, and this loop goes on days later.
    const next = await instructions.wait({ timeout: idleTimeout, tags: ["instruction"] });
    if (!next.ok && next.error.name === "PayloadSchemaValidationError") {
      await say({ type: "problem", text: next.error.message });
    } else if (!next.ok) {
      return await end(
        next.error.name === "WaitTimeoutError" ? `no instruction in ${idleTimeout}` : "cancelled",
      );
    } else if ("end" in next.data) {
      return await end("told to");
    } else {
      turns += 1;
      metadata.patch({ state: "working", turns });
      await work(next.data.text);
    }
  }

  /** A model that fails ends the turn, not the session. */
  async function work(text: string): Promise<void> {
    await say({ type: "instruction", text });
    try {
      await memory.add(await takeTurn(text, memory.messages, { model, say, workspace, signal: ctx.signal }));
    } catch (error) {
      ctx.signal.throwIfAborted();
      await say({ type: "problem", text: error instanceof Error ? error.message : String(error) });
    }
  }
}

async function say(activity: Activity): Promise<void> {
  await activities.append(activity);
  if (activity.type !== "output" && activity.type !== "file") logger.info(lineOf(activity));
}

function lineOf(activity: Exclude<Activity, Detail>): string {
  if (activity.type === "ready") return `ready: ${activity.files.length} files`;
  if (activity.type === "tool") return `${activity.ok ? "+" : "-"} ${activity.summary}`;
  if (activity.type === "ended") return `ended: ${activity.reason}`;
  return `${activity.type}: ${activity.text}`;
}
