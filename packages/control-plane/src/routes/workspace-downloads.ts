/** A whole version as an archive, made while it is sent. */
import { exportTar } from "@helmr/artifacts/versions";
import { releaseReservations } from "@helmr/store";
import type { Context } from "../context.ts";
import type { answered, Handlers } from "../http/handlers.ts";
import { sendBytes } from "../http/send-bytes.ts";
import { openSaved } from "../workspaces/open-source.ts";
import { withVersionAnswers } from "../workspaces/version-errors.ts";
import { hold } from "./workspace-files.ts";

export function workspaceDownloadHandlers(context: Context): Pick<Handlers, "downloadWorkspaceVersion"> {
  return {
    downloadWorkspaceVersion: async (call) => {
      const { workspaceID, versionID } = call.params;
      return await withVersionAnswers<typeof answered>(async () => {
        const { tree } = await openSaved(context, call.scope, workspaceID, versionID);
        using _place = context.downloads.take(call.actor);
        const lease = await hold(context, versionID);
        try {
          return await sendBytes(call, {
            status: 200,
            headers: {
              "content-type": "application/zstd",
              "content-disposition": `attachment; filename="workspace-${versionID}.tar.zst"`,
            },
            source: exportTar(tree, { zstd: true }),
          });
        } finally {
          await releaseReservations(context.db, lease);
        }
      });
    },
  };
}
