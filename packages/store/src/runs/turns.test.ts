import { expect, test } from "vitest";
import { ClaimTurns, type OpenLane } from "./turns.ts";

const lane = (more: Partial<OpenLane> = {}): OpenLane => ({
  environmentId: "a",
  level: 0,
  queueName: "q",
  laneKey: "",
  since: 0,
  depth: 100,
  limited: false,
  places: undefined,
  ...more,
});
const chosen = (turns: ClaimTurns, lanes: readonly OpenLane[], limit: number) =>
  turns.choose(lanes, limit).map(({ lane, take }) => [lane.environmentId, lane.laneKey, lane.level, take]);

test("one lane gets all, as far as it goes", () => {
  expect(chosen(new ClaimTurns(), [lane()], 16)).toEqual([["a", "", 0, 16]]);
  expect(chosen(new ClaimTurns(), [lane({ depth: 3 })], 16)).toEqual([["a", "", 0, 3]]);
  expect(chosen(new ClaimTurns(), [], 16)).toEqual([]);
});

test("environments take turns across claims, the longest waiting of those never served first", () => {
  const turns = new ClaimTurns();
  const lanes = [lane({ since: 2 }), lane({ environmentId: "b", since: 1, level: 7 })];
  expect([1, 2, 3].map(() => chosen(turns, lanes, 1)[0]?.[0])).toEqual(["b", "a", "b"]);
  const late = lane({ environmentId: "c", since: 3 });
  expect(chosen(turns, [...lanes, late], 1)[0]?.[0]).toBe("c");
});

test("in an environment the best level first, then keys by turns", () => {
  const turns = new ClaimTurns();
  const lanes = [
    lane({ laneKey: "x", since: 1 }),
    lane({ laneKey: "y", since: 2 }),
    lane({ laneKey: "z", level: -1, depth: 2 }),
  ];
  expect(chosen(turns, lanes, 5)).toEqual([
    ["a", "z", -1, 2],
    ["a", "x", 0, 2],
    ["a", "y", 0, 1],
  ]);
  expect(chosen(turns, lanes.slice(0, 2), 1)).toEqual([["a", "y", 0, 1]]);
});

test("the places of a key are shared by its levels", () => {
  const limited = { limited: true, places: 2 };
  const lanes = [
    lane({ ...limited, level: -1, depth: 1 }),
    lane(limited),
    lane({ laneKey: "other", ...limited, level: 1 }),
  ];
  expect(chosen(new ClaimTurns(), lanes, 16)).toEqual([
    ["a", "", -1, 1],
    ["a", "", 0, 1],
    ["a", "other", 1, 2],
  ]);
});
