import { tmpdir } from "node:os";
import { expect, it } from "vitest";
import { ptyBinary } from "./pty-native.ts";

it("says what to do where the binary does not load", () => {
  expect(() => ptyBinary(tmpdir())).toThrow(
    /Terminals need an image with glibc.*Commands without a terminal work/,
  );
});
