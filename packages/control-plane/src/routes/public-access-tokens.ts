/** Making public access tokens (contract 5.2): shown once, each for one stream of one session. */
import { ApiError, type Permission, type PublicAccessTokenCreateRequest } from "@helmr/api";
import {
  createPublicAccessToken,
  type EnvironmentReference,
  type PublicAccessScope,
  type SessionKey,
} from "@helmr/store";
import type { Context } from "../context.ts";
import type { Handlers } from "../http/handlers.ts";
import { presentPublicAccessToken } from "../present/public-access-token.ts";
import { found } from "./found.ts";

const defaultLifeMs = 30 * 86_400_000;

/** Nobody gives away what they may not do themselves. */
const permissionFor: Readonly<Record<PublicAccessScope, Permission>> = {
  "session.input.send": "session.input.send",
  "session.output.read": "session.streams.read",
};

export function publicAccessTokenHandlers({ db }: Context): Pick<Handlers, "createPublicAccessToken"> {
  return {
    createPublicAccessToken: async ({ body, enter }) => {
      const scope = await enter(permissionFor[body.scope.type], referenceOf(body));
      const expiresAt = body.expires_at === undefined ? Date.now() + defaultLifeMs : body.expires_at;
      const token = await createPublicAccessToken(db, scope, {
        scopeType: body.scope.type,
        session: sessionKeyOf(body.scope.session),
        stream: body.scope.stream,
        correlationId: body.scope.correlation_id,
        expiresAt: new Date(expiresAt),
        maxUses: body.max_uses,
      });
      return { status: 201, body: presentPublicAccessToken(found(token, "session")) };
    },
  };
}

function referenceOf(body: PublicAccessTokenCreateRequest): EnvironmentReference | undefined {
  const { project_id: project, environment_id: environment } = body;
  if (project === undefined && environment === undefined) return undefined;
  if (project === undefined || environment === undefined) {
    throw new ApiError(400, "project_id, environment_id: send both, or neither with an API key");
  }
  return { project, environment };
}

function sessionKeyOf(session: PublicAccessTokenCreateRequest["scope"]["session"]): SessionKey {
  return session.type === "id" ? { id: session.id } : { externalId: session.external_id };
}
