import { sandboxIdSchema } from "@belljar/protocol";
import { z } from "zod";
import type { Api, RouteContext } from "../services.ts";
import { sinceOf } from "../since.ts";
import { sendEvents } from "../sse.ts";

const eventsQuery = z.strictObject({
  since: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
  sandboxId: sandboxIdSchema.optional(),
});

/** `GET /v1/events`: everything that happens, resumable. */
export function registerEvents(api: Api, context: RouteContext): void {
  const { events } = context;
  api.get(
    "/v1/events",
    {
      config: { policy: "read" },
      schema: {
        tags: ["events"],
        operationId: "streamEvents",
        summary:
          "Follow what happens, from now on, `since` or `Last-Event-ID` (server-sent events)",
        querystring: eventsQuery,
        produces: ["text/event-stream"],
      },
    },
    async (request, reply) => {
      const { sandboxId } = request.query;
      const since = sinceOf(request, request.query.since) ?? events.newestId;
      await sendEvents(reply, context, async function* stream(signal) {
        const options = sandboxId === undefined ? { signal } : { signal, sandboxId };
        for await (const event of events.stream(since, options)) {
          yield { id: event.id, event: event.type, data: event };
        }
      });
    },
  );
}
