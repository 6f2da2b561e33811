/** Saved trees of workspaces that nobody has to store. */
import { createHash } from "node:crypto";
import type { Queryable } from "../src/database.ts";
import { uuidv7 } from "../src/ids.ts";
import type { ActingScope } from "../src/scope.ts";
import { getWorkspace, recordUpload, reserveArtifacts, type SavedTree } from "../src/workspaces/index.ts";

export const testDigest = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;

/** A tree with these contents; each is an artifact of its own, and so is the manifest. */
export function testTree(...contents: string[]): SavedTree {
  const manifestDigest = testDigest(`manifest ${contents.join(" ")}`);
  return {
    manifestDigest,
    contentDigest: testDigest(`tree ${contents.join(" ")}`),
    artifactEncoding: "helmr.tree.v1",
    entryCount: contents.length,
    sizeBytes: contents.join("").length,
    artifacts: [manifestDigest, ...contents.map(testDigest)],
  };
}

/** A current version of the workspace, as an upload leaves it; its id. */
export async function seedVersion(
  db: Queryable,
  scope: ActingScope,
  workspaceId: string,
  tree: SavedTree = testTree("a"),
): Promise<string> {
  const leaseId = uuidv7();
  await reserveArtifacts(db, leaseId, tree.artifacts);
  const workspace = await getWorkspace(db, scope, workspaceId);
  const version = await recordUpload(db, scope, {
    workspaceId,
    leaseId,
    baseVersionId: workspace?.current_version_id ?? undefined,
    tree,
    what: {},
  });
  if (version === undefined) throw new Error("there is no such workspace");
  return version.id;
}
