/** Of every system here, in whatever process its parts are. */
import { parseArtifactKeys } from "@helmr/artifacts";

export const artifactKeys = parseArtifactKeys({ current: Buffer.alloc(32, 5).toString("base64") });
