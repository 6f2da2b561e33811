import fc from "fast-check";
import semver from "semver";
import { expect, it } from "vitest";
import { isRegistrySpec, offeredVersions, replaceLocalSpecs, sdkSpecs } from "./sdk-versions.ts";

const number = fc.nat({ max: 40 });
const version = fc.tuple(number, number, number).map((parts) => parts.join("."));
const prerelease = fc
  .tuple(version, fc.constantFrom("beta.1", "rc.0", "next"))
  .map(([core, tag]) => `${core}-${tag}`);
const simple = fc.oneof(
  version,
  prerelease,
  fc.tuple(fc.constantFrom("^", "~", ">=", ">", "<=", "="), version).map(([operator, at]) => operator + at),
  fc.tuple(number, number).map(([major, minor]) => `${major}.${minor}.x`),
  fc
    .tuple(version, number)
    .map(
      ([low, more]) =>
        `${low} - ${semver.inc(low, "major")?.replace(/^\d+/, (major) => String(Number(major) + more))}`,
    ),
  fc.constantFrom("*", "", "x", "latest", "next"),
);
const range = fc.oneof(
  simple,
  fc.tuple(simple, simple).map(([a, b]) => `${a || "*"} || ${b || "*"}`),
);

it("offers a version for every range a project can ask for", () => {
  fc.assert(
    fc.property(version, fc.array(range, { maxLength: 6 }), (own, specs) => {
      const { versions, tags } = offeredVersions(own, specs);
      expect(versions).toContain(own);
      for (const spec of specs) {
        const asked = semver.validRange(spec);
        if (asked === null) expect(spec.includes("||") || tags.includes(spec)).toBe(true);
        else
          expect(
            versions.some((offered) => semver.satisfies(offered, asked)),
            spec,
          ).toBe(true);
      }
    }),
  );
});

it("offers only its own version when that satisfies", () => {
  expect(offeredVersions("0.1.0", ["^0.1.0", "*", "latest"])).toEqual({
    versions: ["0.1.0"],
    tags: ["latest"],
  });
  expect(offeredVersions("0.1.0", [">2 <1"]).versions).toEqual(["0.1.0"]);
  expect(offeredVersions("0.1.0", ["npm:@helmr/sdk@^3.1.0"]).versions).toEqual(["0.1.0", "3.1.0"]);
});

it("replaces specs that no registry serves", () => {
  for (const spec of [
    "workspace:*",
    "file:../sdk",
    "link:../sdk",
    "../sdk",
    "git+ssh://x/y",
    "https://x/y.tgz",
    "owner/repo",
  ]) {
    const manifest = { dependencies: { "@helmr/sdk": spec, other: spec } };
    expect(isRegistrySpec(spec), spec).toBe(false);
    expect(replaceLocalSpecs(manifest, "0.1.0")).toBe(true);
    expect(manifest.dependencies).toEqual({ "@helmr/sdk": "0.1.0", other: spec });
  }
  expect(sdkSpecs({ dependencies: { "@helmr/sdk": "^1" }, peerDependencies: { "@helmr/sdk": "*" } })).toEqual(
    ["^1", "*"],
  );
});
