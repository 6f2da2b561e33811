/** Saved trees of workspaces that nobody has to store. */
import { createHash } from "node:crypto";
import type { SavedTree } from "../src/workspaces/index.ts";

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
