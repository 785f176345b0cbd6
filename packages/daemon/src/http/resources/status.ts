import { statusSchema, templatePageSchema } from "@belljar/protocol";
import { z } from "zod";
import { pageQuery } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";

const healthSchema = z.object({ status: z.enum(["ok", "draining"]) }).meta({ id: "Health" });
const LIVENESS = ["/healthz", "/health", "/api/v1/healthz"];
const READINESS = ["/readyz", "/api/v1/readyz"];

/** What the daemon is and whether it is well; templates that sandboxes start from. */
export function registerStatus(
  api: Api,
  context: RouteContext,
  state: { isDraining: boolean },
): void {
  const { status, templates } = context;
  api.get(
    "/v1/status",
    {
      config: { policy: "read" },
      schema: {
        tags: ["daemon"],
        operationId: "getStatus",
        summary: "What the daemon is, what it can seal with, what it has left",
        response: { 200: statusSchema },
      },
    },
    () => status(),
  );
  api.get(
    "/v1/templates",
    {
      config: { policy: "read" },
      schema: {
        tags: ["templates"],
        operationId: "listTemplates",
        summary: "List templates",
        querystring: pageQuery,
        response: { 200: templatePageSchema },
      },
    },
    // Templates are few: they always fit one page, so there is never a cursor to give.
    () => ({ items: templates.list(), nextCursor: null }),
  );
  for (const url of LIVENESS) {
    api.get(url, healthRoute("Whether the process lives"), () => ({ status: "ok" as const }));
  }
  for (const url of READINESS) {
    api.get(url, healthRoute("Whether requests are served"), async (_request, reply) =>
      state.isDraining
        ? reply.code(503).send({ status: "draining" as const })
        : { status: "ok" as const },
    );
  }
}

function healthRoute(summary: string) {
  return {
    config: { policy: "public" as const, isHealth: true },
    schema: { tags: ["daemon"], summary, response: { 200: healthSchema, 503: healthSchema } },
  };
}
