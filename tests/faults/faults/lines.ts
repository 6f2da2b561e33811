/** The network: connections break, cannot be made, or carry nothing (../line.ts). */
import type { LineState } from "../line.ts";
import type { LineFault } from "../plan.ts";
import type { Breaker } from "./index.ts";

export const cut: Breaker<LineFault> = {
  begin: (cluster, { target }) => cluster.line(target).cut(),
  end: () => undefined,
};

function stateFor(state: LineState): Breaker<LineFault> {
  return {
    begin: (cluster, { target }) => {
      cluster.line(target).state = state;
    },
    end: (cluster, { target }) => {
      cluster.line(target).state = "open";
    },
  };
}

export const refuse = stateFor("refused");
export const silence = stateFor("silent");
