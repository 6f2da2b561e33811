/** Workspaces: one that several runs write into, one after the other, and one that clients work in. */
import type { Workspace } from "@helmr/sdk";
import type { Operation } from "../plan.ts";
import { untilOver } from "./follow.ts";
import { start } from "./start.ts";
import { answered, pause, statusOf, type World } from "./world.ts";

type Of<Kind extends Operation["kind"]> = Extract<Operation, { kind: Kind }>;

/** Each run finds what the one before it saved (F13). */
export async function counts(world: World, operation: Of<"counts">): Promise<void> {
  const workspace = await makeWorkspace(world, operation.id);
  for (let time = 1; time <= operation.times; time += 1) {
    const options = { workspaceId: workspace.id, suffix: ` time ${time}` };
    await untilOver(world, await start(world, operation, "counts", {}, options));
  }
}

/** Files into saved versions, then commands in a live copy, then the stop. */
export async function workspace(world: World, operation: Of<"workspace">): Promise<void> {
  const { id } = await makeWorkspace(world, operation.id);
  const opened = world.client.workspaces.open(id);
  for (let n = 1; n <= operation.writes; n += 1) {
    const content = `${operation.id} write ${n}`;
    const path = `/file-${n}`;
    await answered(world, (signal) => opened.files.write(path, content, { signal }));
    const { currentVersionId } = await answered(world, (signal) => opened.retrieve({ signal }));
    if (currentVersionId === undefined)
      world.seen.problems.push(`workspace ${id}: no current version after a write that was acknowledged`);
    else world.seen.files.push({ workspaceId: id, versionId: currentVersionId, path, content });
  }
  for (let n = 1; n <= operation.commands; n += 1) await command(world, id, `${operation.id} command ${n}`);
  await answered(world, (signal) => opened.stop({ signal }));
}

/** A live copy may be lost with its worker, and its commands with it: that is said, and the next one has another. */
async function command(world: World, id: string, key: string): Promise<void> {
  const opened = world.client.workspaces.open(id);
  for (let tries = 0; tries < 20; tries += 1) {
    try {
      const exec = await answered(world, (signal) =>
        opened.exec(["sh", "-c", "cat /workspace/file-1 >/dev/null && echo done"], {
          idempotencyKey: `${key} try ${tries}`,
          signal,
        }),
      );
      const over = await answered(world, (signal) => exec.wait({ signal }));
      if (over.state !== "exited") continue;
      if (over.exitCode !== 0)
        world.seen.problems.push(
          `workspace ${id}: ${key} found no file that was saved (exit ${over.exitCode})`,
        );
      return;
    } catch (error) {
      // Somebody else's copy is being brought up or ended just now.
      if (statusOf(error) !== 409) throw error;
      await pause(world, 1_000);
    }
  }
  world.seen.problems.push(`workspace ${id}: ${key} was lost 20 times`);
}

async function makeWorkspace(world: World, key: string): Promise<Workspace> {
  const options = { sandboxId: "box", idempotencyKey: `workspace of ${key}` };
  return await answered(world, (signal) => world.client.workspaces.create({ ...options, signal }));
}

/** What was acknowledged is read again, when all is over. */
export async function readBack(world: World): Promise<void> {
  for (const file of world.seen.files) {
    const { files } = world.client.workspaces.open(file.workspaceId);
    const found = await answered(world, async (signal) =>
      new TextDecoder().decode(await files.read(file.path, { versionId: file.versionId, signal })),
    ).catch((error: unknown) => `${error}`);
    world.seen.readBacks.push({ ...file, found });
  }
}
