import {
  BelljarError,
  createSandboxRequestSchema,
  flagQuerySchema,
  keepAliveRequestSchema,
  listSandboxesQuerySchema,
  sandboxPageSchema,
  sandboxSchema,
  updateSandboxRequestSchema,
  usageSchema,
} from "@belljar/protocol";
import { Readable } from "node:stream";
import { z } from "zod";
import { callerOf, sandboxParams } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";

const TAGS = ["sandboxes"];
const destroyQuery = z.strictObject({ keepWorkspace: flagQuerySchema.default(false) });
const logsQuery = z.strictObject({ follow: flagQuerySchema.default(false) });

/** Sandboxes: create, get, list, change, destroy, and what rests and wakes them. */
export function registerSandboxes(api: Api, context: RouteContext): void {
  registerCollection(api, context);
  registerOne(api, context);
  registerTransitions(api, context);
  registerLogs(api, context);
}

function registerCollection(api: Api, { sandboxes }: RouteContext): void {
  api.post(
    "/v1/sandboxes",
    {
      config: { policy: "operate", takesIdempotencyKey: true },
      schema: {
        tags: TAGS,
        operationId: "createSandbox",
        summary: "Make a sandbox and start it",
        body: createSandboxRequestSchema,
        response: { 201: sandboxSchema },
      },
    },
    async (request, reply) => {
      const sandbox = await sandboxes.create(request.body, callerOf(request));
      return reply.code(201).header("location", `/v1/sandboxes/${sandbox.id}`).send(sandbox);
    },
  );
  api.get(
    "/v1/sandboxes",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "listSandboxes",
        summary: "List sandboxes, newest first",
        querystring: listSandboxesQuerySchema.strict(),
        response: { 200: sandboxPageSchema },
      },
    },
    ({ query }) => {
      const { limit, cursor, state, name } = query;
      const metadata = metadataFilter(query.metadata);
      return sandboxes.list({
        limit,
        ...(cursor === undefined ? {} : { cursor }),
        ...(state === undefined ? {} : { state }),
        ...(name === undefined ? {} : { name }),
        ...(metadata === undefined ? {} : { metadata }),
      });
    },
  );
}

function metadataFilter(given: string | string[] | undefined): Record<string, string> | undefined {
  if (given === undefined) return undefined;
  const filter = new Map<string, string>();
  for (const text of [given].flat()) {
    const colon = text.indexOf(":");
    if (colon < 1) {
      const shown = JSON.stringify(text.slice(0, 120));
      throw new BelljarError("BAD_REQUEST", `query.metadata: must be key:value, got ${shown}`);
    }
    const key = text.slice(0, colon);
    if (filter.has(key)) {
      const shown = JSON.stringify(key.slice(0, 120));
      throw new BelljarError("BAD_REQUEST", `query.metadata: names ${shown} twice`);
    }
    filter.set(key, text.slice(colon + 1));
  }
  return Object.fromEntries(filter);
}

function registerOne(api: Api, { sandboxes }: RouteContext): void {
  api.get(
    "/v1/sandboxes/:id",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "getSandbox",
        summary: "Look at a sandbox, with the layers and limits in force",
        params: sandboxParams,
        response: { 200: sandboxSchema },
      },
    },
    ({ params }) => sandboxes.get(params.id),
  );
  api.patch(
    "/v1/sandboxes/:id",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "updateSandbox",
        summary: "Change name, metadata or timeouts",
        params: sandboxParams,
        body: updateSandboxRequestSchema,
        response: { 200: sandboxSchema },
      },
    },
    ({ params, body }) => sandboxes.update(params.id, body),
  );
  api.delete(
    "/v1/sandboxes/:id",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "destroySandbox",
        summary: "End a sandbox for good, and its workspace unless that is to be kept",
        params: sandboxParams,
        querystring: destroyQuery,
        response: { 204: z.null() },
      },
    },
    async ({ params, query }, reply) => {
      await sandboxes.destroy(params.id, { keepWorkspace: query.keepWorkspace });
      return reply.code(204).send(null);
    },
  );
  api.get(
    "/v1/sandboxes/:id/usage",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "getUsage",
        summary: "What a sandbox uses: memory, CPU time, processes, disk",
        params: sandboxParams,
        response: { 200: usageSchema },
      },
    },
    ({ params }) => sandboxes.usage(params.id),
  );
}

const TRANSITIONS = {
  freeze: "Take the CPU away, keep the memory",
  stop: "End every process, keep the workspace",
  wake: "Run again, from wherever it rests",
} as const;

function registerTransitions(api: Api, { sandboxes }: RouteContext): void {
  const act = {
    freeze: sandboxes.freeze.bind(sandboxes),
    stop: sandboxes.stop.bind(sandboxes),
    wake: (id: Parameters<typeof sandboxes.wake>[0]) => sandboxes.wake(id, { reason: "api" }),
  };
  for (const name of ["freeze", "stop", "wake"] as const) {
    api.post(
      `/v1/sandboxes/:id/${name}`,
      {
        config: { policy: "operate" },
        schema: {
          tags: TAGS,
          operationId: `${name}Sandbox`,
          summary: TRANSITIONS[name],
          params: sandboxParams,
          response: { 200: sandboxSchema },
        },
      },
      ({ params }) => act[name](params.id),
    );
  }
  api.post(
    "/v1/sandboxes/:id/keepalive",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "keepSandboxAlive",
        summary: "No idle rest before this many milliseconds have passed",
        params: sandboxParams,
        body: keepAliveRequestSchema,
        response: { 200: sandboxSchema },
      },
    },
    ({ params, body }) => sandboxes.keepAlive(params.id, body.forMs),
  );
}

function registerLogs(api: Api, { sandboxes, streams }: RouteContext): void {
  api.get(
    "/v1/sandboxes/:id/logs",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "getLogs",
        summary: "Output of the start command: the last 64 KiB, and what comes with `follow`",
        params: sandboxParams,
        querystring: logsQuery,
        produces: ["text/plain"],
      },
    },
    async ({ params, query, identity }, reply) => {
      await sandboxes.get(params.id);
      const stream = streams.open(identity);
      const { signal } = stream.controller;
      reply.raw.once("close", () => {
        stream.controller.abort();
        stream[Symbol.dispose]();
      });
      const output = sandboxes.startCommandLogs(params.id, { follow: query.follow, signal });
      const body = Readable.from(bytesOf(output), { objectMode: false });
      return reply.header("content-type", "text/plain; charset=utf-8").send(body);
    },
  );
}

async function* bytesOf(output: AsyncIterable<{ data: Uint8Array }>): AsyncGenerator<Uint8Array> {
  for await (const { data } of output) yield data;
}
