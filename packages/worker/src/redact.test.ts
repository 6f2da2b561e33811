/** No part of a secret that could be recognised is left. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { Redactor } from "./redact.ts";

const pem = "-----BEGIN KEY-----\nabcdefghij\nklmnopqrst\n-----END KEY-----\n";

it("replaces values, single lines of them, and values inside of nested details", () => {
  const redactor = new Redactor([
    ["TOKEN", "s3cret-$&-value"],
    ["PEM", pem],
    ["SHORT", "a"],
  ]);
  expect(redactor.text("got s3cret-$&-value, a")).toBe("got [secret TOKEN], a");
  expect(redactor.text("line klmnopqrst!")).toBe("line [secret PEM]!");
  expect(redactor.value({ stack: [`x${pem}y`], code: 3 })).toEqual({ stack: ["x[secret PEM]y"], code: 3 });
});

it("leaves no value of six characters or more, whatever surrounds it", () => {
  const value = fc.stringMatching(/^[a-z0-9$&]{6,12}$/);
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 4 }), fc.string(), (values, text) => {
      const redactor = new Redactor(values.map((each, index) => [String(index), each]));
      const result = redactor.text(`${text}${values.join("")}${text}`);
      for (const each of values) expect(result.split(/\[secret \d\]/).join("\0")).not.toContain(each);
    }),
  );
});
