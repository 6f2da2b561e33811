/** `npm run check`: everything `npm test` checks without running a test. Needs no root and no guest. */
import { runChecks } from "./lib/steps.ts";

process.exitCode = (await runChecks()).length > 0 ? 1 : 0;
