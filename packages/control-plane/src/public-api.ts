/** The public routes and what they share: raw bodies, the API version, the OpenAPI document. */
import multipart from "@fastify/multipart";
import { ApiError, apiPrefix, apiVersion, maxUploadBytes, openapiDocument } from "@helmr/api";
import type { FastifyInstance } from "fastify";
import type { Authorize } from "./auth/authorize.ts";
import type { Context } from "./context.ts";
import { registerRoutes, uploadType } from "./http/register-routes.ts";
import { apiKeyHandlers } from "./routes/api-keys.ts";
import { catalogHandlers } from "./routes/catalog.ts";
import { deploymentHandlers } from "./routes/deployments.ts";
import { deviceHandlers } from "./routes/device.ts";
import { meHandlers } from "./routes/me.ts";
import { memberHandlers } from "./routes/members.ts";
import { organizationHandlers } from "./routes/organizations.ts";
import { projectHandlers } from "./routes/projects.ts";
import { publicAccessTokenHandlers } from "./routes/public-access-tokens.ts";
import { queueHandlers } from "./routes/queues.ts";
import { runHandlers } from "./routes/runs.ts";
import { scheduleHandlers } from "./routes/schedules.ts";
import { secretHandlers } from "./routes/secrets.ts";
import { sessionHandlers } from "./routes/sessions.ts";
import { signInHandlers, signOutHandlers } from "./routes/sign-in.ts";
import { startHandlers } from "./routes/start-session.ts";
import { publicStreamHandlers, streamHandlers } from "./routes/streams.ts";
import { tokenHandlers } from "./routes/tokens.ts";
import { workerGroupHandlers } from "./routes/worker-groups.ts";
import { workerHandlers } from "./routes/workers.ts";
import { workspaceCommandHandlers } from "./routes/workspace-commands.ts";
import { workspaceDiffHandlers } from "./routes/workspace-diffs.ts";
import { workspaceDownloadHandlers } from "./routes/workspace-downloads.ts";
import { workspaceFileHandlers } from "./routes/workspace-files.ts";
import { materializationHandlers } from "./routes/workspace-materializations.ts";
import { workspaceUploadHandlers } from "./routes/workspace-uploads.ts";
import { workspaceVersionHandlers } from "./routes/workspace-versions.ts";
import { workspaceHandlers } from "./routes/workspaces.ts";

/** A plugin of its own: its body parser and hooks do not reach the worker's routes. */
export async function publicApi(app: FastifyInstance, context: Context, authorize: Authorize): Promise<void> {
  app.removeAllContentTypeParsers();
  // The content type is not enforced (contract 1.2): a body is bytes until its route's schema reads it.
  app.addContentTypeParser("*", { parseAs: "buffer", bodyLimit: maxUploadBytes }, (_request, body, done) =>
    done(null, body),
  );
  app.addContentTypeParser(uploadType, (_request, stream, done) => done(null, stream));
  await app.register(multipart);
  app.addHook("onRequest", async (request) => {
    const version = request.headers["helmr-api-version"];
    if (version !== undefined && version !== apiVersion) {
      throw new ApiError(
        400,
        `Helmr-API-Version: this server speaks ${apiVersion}; use a client of that version`,
      );
    }
  });
  const document = JSON.stringify(openapiDocument());
  app.get(`${apiPrefix}/openapi.json`, async (_request, reply) =>
    reply.type("application/json").send(document),
  );
  registerRoutes(
    app,
    {
      ...startHandlers(context),
      ...sessionHandlers(context),
      ...streamHandlers(context),
      ...publicStreamHandlers(context),
      ...tokenHandlers(context),
      ...publicAccessTokenHandlers(context),
      ...runHandlers(context),
      ...queueHandlers(context),
      ...scheduleHandlers(context),
      ...workspaceHandlers(context),
      ...workspaceVersionHandlers(context),
      ...workspaceFileHandlers(context),
      ...workspaceUploadHandlers(context),
      ...workspaceDiffHandlers(context),
      ...workspaceDownloadHandlers(context),
      ...deploymentHandlers(context),
      ...catalogHandlers(context),
      ...secretHandlers(context),
      ...deviceHandlers(context),
      ...meHandlers(context),
      ...signInHandlers(context),
      ...signOutHandlers(context),
      ...projectHandlers(context),
      ...apiKeyHandlers(context),
      ...organizationHandlers(context),
      ...memberHandlers(context),
      ...materializationHandlers(context),
      ...workspaceCommandHandlers(context),
      ...workerGroupHandlers(context),
      ...workerHandlers(context),
    },
    authorize,
    context.limiter,
    new URL(context.config.publicUrl).origin,
  );
}
