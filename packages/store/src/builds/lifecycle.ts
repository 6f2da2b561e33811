/**
 * The build of a deployment: what its worker may write.
 *
 *   status      enters by                               leaves by
 *   queued      createDeployment, finishBuild (retry),   claimBuilds
 *               expireBuildLeases
 *   building    claimBuilds                             finishBuild, expireBuildLeases
 *   deployed    finishBuild                             never
 *   failed      finishBuild, expireBuildLeases          never
 *
 *   B1  A write names lease, fencing and worker; when one is not the build's, nothing is written.
 *   B2  Tasks, sandboxes and queues are written in the transaction that makes the deployment `deployed`: all or none.
 *   B3  deployment.deployed or deployment.failed is the last event, once.
 *   B4  A build is tried at most `maxBuildAttempts` times.
 */
import { sql } from "kysely";
import type { Queryable, Tx } from "../database.ts";
import type { LeaseRef } from "../runs/index.ts";

export const maxBuildAttempts = 3;

export interface BuildRef {
  readonly deploymentId: string;
  readonly environmentId: string;
}

export interface LockedBuild {
  readonly id: string;
  readonly environment_id: string;
  readonly build_attempt: number;
  readonly append_number: number;
  readonly event_seq: number;
}

/** B1: the build that this lease is of, locked; undefined when the lease is lost. */
export async function lockBuild(tx: Tx, lease: LeaseRef): Promise<LockedBuild | undefined> {
  const { rows } = await sql<LockedBuild>`
    select id, environment_id, build_attempt, append_number, event_seq from deployments
    where lease_id = ${lease.leaseId} and fencing = ${lease.fencing} and worker_instance_id = ${lease.workerInstanceId}
    for update`.execute(tx);
  return rows[0];
}

/** B1 without a lock, for reading on behalf of the build. */
export async function buildOfLease(db: Queryable, lease: LeaseRef): Promise<BuildRef | undefined> {
  const { rows } = await sql<BuildRef>`
    select id as "deploymentId", environment_id as "environmentId" from deployments
    where lease_id = ${lease.leaseId} and fencing = ${lease.fencing}
      and worker_instance_id = ${lease.workerInstanceId}`.execute(db);
  return rows[0];
}
