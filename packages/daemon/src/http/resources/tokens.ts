import { createTokenRequestSchema, tokenListSchema, tokenSchema } from "@belljar/protocol";
import { z } from "zod";
import { tokenParams } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";

const TAGS = ["tokens"];

/** API tokens. */
export function registerTokens(api: Api, { tokens }: RouteContext): void {
  api.post(
    "/v1/tokens",
    {
      config: { policy: "admin" },
      schema: {
        tags: TAGS,
        operationId: "createToken",
        summary: "Make a token; its value is in this answer alone",
        body: createTokenRequestSchema,
        response: { 201: tokenSchema },
      },
    },
    async ({ body }, reply) => reply.code(201).send(await tokens.create(body)),
  );
  api.get(
    "/v1/tokens",
    {
      config: { policy: "admin" },
      schema: {
        tags: TAGS,
        operationId: "listTokens",
        summary: "List tokens, without their values",
        response: { 200: tokenListSchema },
      },
    },
    async () => ({ items: await tokens.list() }),
  );
  api.delete(
    "/v1/tokens/:tokenId",
    {
      config: { policy: "admin" },
      schema: {
        tags: TAGS,
        operationId: "revokeToken",
        summary: "End a token at once",
        params: tokenParams,
        response: { 204: z.null() },
      },
    },
    async ({ params }, reply) => {
      await tokens.revoke(params.tokenId);
      return reply.code(204).send(null);
    },
  );
}
