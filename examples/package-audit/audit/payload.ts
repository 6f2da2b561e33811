/** What to audit: an npm package's name and a version or tag. */
import { z } from "zod";

/** npm's rules for names; also what keeps an argument from being taken for an option, a URL or a folder. */
const packageName = /^(?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~][a-z0-9._~-]*$/;
const versionOrTag = /^[0-9A-Za-z][0-9A-Za-z.+-]*$/;

export const payload = z.object({
  name: z
    .string()
    .max(214)
    .regex(packageName, "must be the name of an npm package, such as is-odd or @scope/name"),
  version: z
    .string()
    .max(128)
    .regex(versionOrTag, "must be an exact version such as 1.2.3, or a tag such as latest")
    .default("latest"),
});

export type Wanted = z.output<typeof payload>;
