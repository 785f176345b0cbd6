import {
  listeningPortListSchema,
  processListSchema,
  processSchema,
  signalRequestSchema,
  startProcessRequestSchema,
} from "@belljar/protocol";
import { z } from "zod";
import { toExecRequest } from "../command.ts";
import { processParams, processTarget, sandboxParams, toInstant } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";
import { toPort, toProcess } from "../guest-views.ts";

const TAGS = ["processes"];

/** Processes that outlive their connection, and the ports that something inside listens on. */
export function registerProcesses(api: Api, context: RouteContext): void {
  registerCollection(api, context);
  registerSignal(api, context);
  registerPorts(api, context);
}

function registerCollection(api: Api, { sandboxes, clock }: RouteContext): void {
  api.get(
    "/v1/sandboxes/:id/processes",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "listProcesses",
        summary: "List processes that were started through the API",
        params: sandboxParams,
        response: { 200: processListSchema },
      },
    },
    async ({ params: { id } }) => {
      const guest = await sandboxes.guest(id);
      return { items: (await guest.processes()).map(toProcess) };
    },
  );
  api.post(
    "/v1/sandboxes/:id/processes",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "startProcess",
        summary: "Start a command that outlives the request",
        params: sandboxParams,
        body: startProcessRequestSchema,
        response: { 201: processSchema },
      },
    },
    async ({ params: { id }, body }, reply) => {
      const guest = await sandboxes.guest(id);
      const request = toExecRequest(body, await sandboxes.commandDefaults(id));
      const { tag, terminal, stdin } = body;
      const session = await guest.exec({
        ...request,
        stdin,
        keep: true,
        ...(tag === undefined ? {} : { tag }),
        ...(terminal === undefined ? {} : { terminal }),
      });
      session.exited.catch(() => undefined);
      session.close();
      return reply.code(201).send({
        pid: session.pid,
        tag: tag ?? null,
        command: [...request.command],
        cwd: request.cwd ?? "",
        startedAt: toInstant(clock.now()),
        terminal: terminal !== undefined,
        running: true,
        exit: null,
      });
    },
  );
}

function registerSignal(api: Api, { sandboxes }: RouteContext): void {
  api.post(
    "/v1/sandboxes/:id/processes/:pid/signal",
    {
      config: { policy: "operate" },
      schema: {
        tags: TAGS,
        operationId: "signalProcess",
        summary: "Signal a process group, named by pid or tag",
        params: processParams,
        body: signalRequestSchema,
        response: { 204: z.null() },
      },
    },
    async ({ params, body }, reply) => {
      const guest = await sandboxes.guest(params.id);
      await guest.signalProcess(processTarget(params.pid), body.signal);
      return reply.code(204).send(null);
    },
  );
}

function registerPorts(api: Api, { sandboxes }: RouteContext): void {
  api.get(
    "/v1/sandboxes/:id/ports",
    {
      config: { policy: "read" },
      schema: {
        tags: TAGS,
        operationId: "listPorts",
        summary: "List TCP ports that something inside listens on",
        params: sandboxParams,
        response: { 200: listeningPortListSchema },
      },
    },
    async ({ params: { id } }) => {
      const guest = await sandboxes.guest(id);
      return { items: (await guest.listeningPorts()).map(toPort) };
    },
  );
}
