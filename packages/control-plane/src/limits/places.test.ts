import { expect, test } from "vitest";
import { Places } from "./places.ts";
import { RateLimitedError } from "./rate-limiter.ts";

const actor = (id: string) => ({ kind: "api_key", id, label: id }) as const;

test("so many at once, of one caller less, and a place that is given back is free", () => {
  const places = new Places("downloads", { all: 3, perActor: 2 });
  const first = places.take(actor("a"));
  places.take(actor("a"));
  expect(() => places.take(actor("a"))).toThrow(RateLimitedError);
  places.take(actor("b"));
  expect(() => places.take(actor("c"))).toThrow("too many downloads are under way");
  first[Symbol.dispose]();
  places.take(actor("a"));
  expect(() => places.take(actor("c"))).toThrow("too many downloads");
});
