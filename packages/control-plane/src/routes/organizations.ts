/** Organizations of a user, and the audit log of the one in which the session acts (contract 11.1). */
import { createHash, timingSafeEqual } from "node:crypto";
import { ApiError } from "@helmr/api";
import { createOrganization, listAuditRecords, listOrganizationsOf, selectOrganization } from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentAuditRecord, presentOrganization } from "../present/organization.ts";
import { found } from "./found.ts";

const defaultAuditLimit = 50;

type OrganizationHandlers = Pick<
  Handlers,
  "listOrganizations" | "createOrganization" | "selectOrganization" | "readAuditLog"
>;

export function organizationHandlers(context: Context): OrganizationHandlers {
  const { db, config, authenticator } = context;
  const selfHosted = (config.deploymentMode ?? "self-hosted") === "self-hosted";
  return {
    listOrganizations: async ({ user }) => {
      const rows = await listOrganizationsOf(db, user.userId);
      const organizations = rows.map(({ role, ...row }) => ({
        ...presentOrganization(row),
        role,
        selected: row.id === user.membership?.organizationId,
      }));
      return { status: 200, body: { organizations } };
    },
    createOrganization: async ({ actor, user, body }) => {
      if (selfHosted) requireSetupToken(config.setupToken, body.setup_token);
      const names = { slug: body.slug, name: body.name ?? "" };
      const row = await createOrganization(db, { actor, ...user }, names, { onlyOne: selfHosted });
      authenticator.forget();
      return { status: 201, body: presentOrganization(row) };
    },
    selectOrganization: async ({ actor, user, params }) => {
      const row = await selectOrganization(db, { actor, ...user }, params.organizationID);
      authenticator.forget();
      return { status: 200, body: presentOrganization(found(row, "organization")) };
    },
    readAuditLog: async ({ member, query }) => {
      const limit = query.limit ?? defaultAuditLimit;
      const rows = await listAuditRecords(db, member.organizationId, {
        before: query.before,
        action: query.action,
        actorId: query.actor_id,
        resourceId: query.resource_id,
        limit: limit + 1,
      });
      const records = rows.slice(0, limit).map(presentAuditRecord);
      return { status: 200, body: { records, has_more: rows.length > limit } };
    },
  };
}

/** Compared by digest: the time it takes tells neither the token's content nor its length. */
function requireSetupToken(expected: string | undefined, given: string | undefined): void {
  if (expected === undefined || expected === "") {
    throw new ApiError(403, "no organization can be created here: start the server with HELMR_SETUP_TOKEN");
  }
  if (given === undefined || !timingSafeEqual(sha256(given), sha256(expected))) {
    throw new ApiError(403, "setup_token: send the HELMR_SETUP_TOKEN with which the server was started");
  }
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
