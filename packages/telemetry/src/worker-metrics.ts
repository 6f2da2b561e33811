/** What `helmr-worker` measures of its guests and of what it does for runs. */
import { bytesBuckets, define, longSecondsBuckets, secondsBuckets } from "./define.ts";
import type { MetricsRegistry } from "./registry.ts";

export type WorkerMetrics = ReturnType<typeof createWorkerMetrics>;

export function createWorkerMetrics(registry: MetricsRegistry) {
  const { counter, gauge, watched, histogram } = define(registry);
  return {
    slots: gauge("helmr_worker_slots", "Runs, builds and live copies that this worker takes at a time", [
      "kind",
    ]),
    slotsInUse: watched("helmr_worker_slots_in_use", "Those it has now", ["kind"]),
    runs: counter(
      "helmr_worker_runs_total",
      "Leases of runs that ended here, by how: finished, parked, handed_back (the worker was drained) or lost",
      ["outcome"],
    ),
    runStart: histogram(
      "helmr_run_start_seconds",
      "From a run's lease, as the worker got it, until its task's code was called; `guest` is pooled or cold",
      secondsBuckets,
      ["guest"],
    ),
    pool: {
      size: watched("helmr_guest_pool_size", "Guests that are up and wait for a run", []),
      hits: counter("helmr_guest_pool_hits_total", "Runs that got a guest that was up"),
      misses: counter("helmr_guest_pool_misses_total", "Runs for which a guest had to be started"),
    },
    guestStart: histogram(
      "helmr_guest_start_seconds",
      "Start of a guest until its agent answered, for the pool or for a run that waits",
      secondsBuckets,
    ),
    checkpoint: {
      seconds: histogram(
        "helmr_checkpoint_seconds",
        "Stopping, saving, sealing and storing a waiting guest",
        longSecondsBuckets,
      ),
      bytes: histogram("helmr_checkpoint_bytes", "Size of a saved guest in the object store", bytesBuckets),
      errors: counter(
        "helmr_checkpoint_errors_total",
        "Guests that could not be saved; their runs went on waiting in them",
      ),
    },
    restore: {
      seconds: histogram(
        "helmr_restore_seconds",
        "Reading, opening and restoring a saved guest until its task answered",
        longSecondsBuckets,
      ),
      bytes: histogram("helmr_restore_bytes", "Size of the saved guests that were restored", bytesBuckets),
      errors: counter("helmr_restore_errors_total", "Saved guests that could not be restored"),
    },
    workspaceSave: {
      seconds: histogram(
        "helmr_workspace_save_seconds",
        "Saving a version of a workspace",
        longSecondsBuckets,
      ),
      bytes: histogram(
        "helmr_workspace_save_bytes",
        "Bytes stored for a version that were not stored before",
        bytesBuckets,
      ),
    },
    workspaceRestore: histogram(
      "helmr_workspace_restore_seconds",
      "Writing a saved version into a workspace",
      longSecondsBuckets,
    ),
    hotWait: histogram(
      "helmr_wait_hot_seconds",
      "From a wait's beginning until its result, of waits whose guest stayed",
      longSecondsBuckets,
    ),
    controlPlane: {
      requests: counter(
        "helmr_worker_requests_total",
        "Requests to the control plane by kind and result: ok, refused (4xx), failed (5xx, or no answer)",
        ["kind", "result"],
      ),
    },
    build: histogram("helmr_build_seconds", "Builds of deployments", longSecondsBuckets),
  };
}
