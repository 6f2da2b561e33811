/** What `helmr-control` measures: its HTTP side, and what it writes into the database for workers. */
import { countBuckets, define, longSecondsBuckets, secondsBuckets, waitSecondsBuckets } from "./define.ts";
import type { MetricsRegistry } from "./registry.ts";

export type ControlMetrics = ReturnType<typeof createControlMetrics>;

export function createControlMetrics(registry: MetricsRegistry) {
  const { counter, gauge, histogram } = define(registry);
  return {
    http: {
      requests: counter(
        "helmr_http_requests_total",
        "Answered requests by method, route template and class of status (2xx)",
        ["method", "route", "status"],
      ),
      seconds: histogram(
        "helmr_http_request_seconds",
        "From a request's headers to the last byte of its answer, without event streams; routes of workers hold their answers",
        secondsBuckets,
        ["method", "route"],
      ),
      inFlight: gauge(
        "helmr_http_requests_in_flight",
        "Requests that are being answered, event streams among them",
      ),
    },
    followers: gauge("helmr_sse_followers", "Open event streams"),
    longPolls: gauge("helmr_long_polls_held", "Requests that are held until there is something to tell", [
      "kind",
    ]),
    appendItems: histogram(
      "helmr_event_append_items",
      "Log chunks, events and metadata updates of one append of a worker",
      countBuckets,
    ),
    eventLag: histogram(
      "helmr_event_lag_seconds",
      "From the guest's time of a log chunk or event until it was committed; of the oldest of an append. Clocks of hosts differ",
      secondsBuckets,
    ),
    leaseLatency: histogram(
      "helmr_run_lease_latency_seconds",
      "From when a run could be leased until it was, by the database's clock; `lease` is first, retry or resume",
      longSecondsBuckets,
      ["lease"],
    ),
    parkedWait: histogram(
      "helmr_wait_parked_seconds",
      "From a wait's beginning until its parked run was leased again",
      waitSecondsBuckets,
    ),
  };
}
