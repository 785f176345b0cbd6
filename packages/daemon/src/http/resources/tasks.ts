import {
  createTaskRequestSchema,
  pageQuerySchema,
  sandboxIdSchema,
  taskPageSchema,
  taskSchema,
  taskStateSchema,
} from "@belljar/protocol";
import { z } from "zod";
import { parseSandboxId } from "../../kernel/index.ts";
import { callerOf, pageQuery, sandboxParams, taskParams } from "../request.ts";
import { sinceOf } from "../since.ts";
import type { Api, RouteContext } from "../services.ts";
import { sendEvents } from "../sse.ts";

const TAGS = ["tasks"];
const eventsQuery = z.strictObject({
  since: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
});
const listQuery = pageQuerySchema
  .extend({ sandboxId: sandboxIdSchema.optional(), state: taskStateSchema.optional() })
  .strict();

/** Tasks: durable headless commands, their events, and their end. */
export function registerTasks(api: Api, context: RouteContext): void {
  registerSandboxTasks(api, context);
  registerLists(api, context);
  registerOne(api, context);
}

function registerSandboxTasks(api: Api, { tasks, sandboxes }: RouteContext): void {
  api.post(
    "/v1/sandboxes/:id/tasks",
    {
      config: { policy: "operate", takesIdempotencyKey: true },
      schema: {
        tags: TAGS,
        operationId: "createTask",
        summary: "Start a durable command; one runs at a time in a sandbox",
        params: sandboxParams,
        body: createTaskRequestSchema,
        response: { 201: taskSchema },
      },
    },
    async (request, reply) => {
      const task = await tasks.create(request.params.id, request.body, callerOf(request));
      return reply.code(201).header("location", `/v1/tasks/${task.id}`).send(task);
    },
  );
  api.get(
    "/v1/sandboxes/:id/tasks",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "listSandboxTasks",
        summary: "List a sandbox's tasks, newest first",
        params: sandboxParams,
        querystring: pageQuery,
        response: { 200: taskPageSchema },
      },
    },
    async ({ params: { id }, query: { limit, cursor } }) => {
      const page = await tasks.list({
        sandboxId: id,
        limit,
        ...(cursor === undefined ? {} : { cursor }),
      });
      // Tasks outlive their sandbox: only an id that has none must be one that exists.
      if (page.items.length === 0 && cursor === undefined) await sandboxes.get(id);
      return page;
    },
  );
}

function registerLists(api: Api, { tasks }: RouteContext): void {
  api.get(
    "/v1/tasks",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "listTasks",
        summary: "List tasks of all sandboxes, newest first",
        querystring: listQuery,
        response: { 200: taskPageSchema },
      },
    },
    ({ query: { limit, cursor, state, sandboxId } }) => {
      const id = sandboxId === undefined ? undefined : parseSandboxId(sandboxId);
      return tasks.list({
        limit,
        ...(cursor === undefined ? {} : { cursor }),
        ...(state === undefined ? {} : { state }),
        ...(id === undefined ? {} : { sandboxId: id }),
      });
    },
  );
}

function registerOne(api: Api, context: RouteContext): void {
  const { tasks } = context;
  api.get(
    "/v1/tasks/:taskId",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "getTask",
        summary: "Look at a task; its result stays after its sandbox is gone",
        params: taskParams,
        response: { 200: taskSchema },
      },
    },
    ({ params }) => tasks.get(params.taskId),
  );
  api.post(
    "/v1/tasks/:taskId/cancel",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "cancelTask",
        summary: "End a task: TERM, and KILL 5 s later",
        params: taskParams,
        response: { 200: taskSchema },
      },
    },
    ({ params }) => tasks.cancel(params.taskId),
  );
  api.get(
    "/v1/tasks/:taskId/events",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "streamTaskEvents",
        summary: "Follow a task from its start, `since` or `Last-Event-ID` (server-sent events)",
        params: taskParams,
        querystring: eventsQuery,
        produces: ["text/event-stream"],
      },
    },
    async (request, reply) => {
      const { taskId } = request.params;
      await tasks.get(taskId);
      const since = sinceOf(request, request.query.since) ?? 0;
      await sendEvents(reply, context, async function* events(signal) {
        for await (const event of tasks.subscribe(taskId, since, signal)) {
          yield { id: event.sequence, event: event.type, data: event };
        }
      });
    },
  );
}
