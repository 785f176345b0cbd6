import type { Server } from "node:http";
import { createServer } from "node:http";
import { BelljarError } from "@belljar/protocol";
import { fastify, LogController } from "fastify";
import type { FastifyReply } from "fastify";
import { serializerCompiler } from "fastify-type-provider-zod";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { answerError, refuseUnknownRoute } from "./errors.ts";
import { installLifecycle, requestIds } from "./lifecycle.ts";
import { installOpenApi, openApiDocument } from "./openapi.ts";
import { OpenStreams } from "./open-streams.ts";
import { registerCommands } from "./resources/commands.ts";
import { registerEvents } from "./resources/events.ts";
import { registerFileContent } from "./resources/file-content.ts";
import { registerFiles } from "./resources/files.ts";
import { registerPreviews } from "./resources/previews.ts";
import { registerProcesses } from "./resources/processes.ts";
import { registerSandboxes } from "./resources/sandboxes.ts";
import { registerStatus } from "./resources/status.ts";
import { registerTasks } from "./resources/tasks.ts";
import { registerTokens } from "./resources/tokens.ts";
import { RouteTable } from "./route-table.ts";
import type { Api, ApiServices, ApiSettings, RouteContext } from "./services.ts";
import { UPGRADE_ROUTES, Upgrades } from "./upgrades.ts";
import { validatorCompiler } from "./validation.ts";

/** Time for a request's head on a connection that the gateway's front has already framed. */
const HEADERS_TIMEOUT_MS = 15_000;
const KEEP_ALIVE_MS = 75_000;
const PATH_PARAMETER_CHARS_MAX = 256;

/** The API: an http server that others give connections to, and the means to stop it. */
export interface HttpApi extends AsyncDisposable {
  /** Never listens by itself: connections come by `emit("connection", duplex)` */
  readonly server: Server;
  /** The routes with their policies, one a line */
  readonly routes: readonly string[];
  /** The OpenAPI 3.1 document */
  openApi(): Record<string, unknown>;
  /** One request without a connection, for tests */
  readonly inject: Api["inject"];
  /** Refuses new requests and ends the streams that would never end; requests in flight go on. */
  drain(): void;
}

/** Builds the API. An InvariantError when a route declares no policy. */
export async function createApi(
  services: ApiServices,
  options: { settings: ApiSettings; version: string; extend?: (api: Api) => void },
): Promise<HttpApi> {
  const context: RouteContext = {
    ...services,
    settings: options.settings,
    streams: new OpenStreams(services.tokens),
  };
  const state = { isDraining: false };
  const nextId = requestIds();
  const routes = new RouteTable();
  const upgrades = new Upgrades(context, { state, nextId });
  const api = createFastify(options.settings, nextId);
  api.addHook("onRoute", (route) => routes.add(route));
  installParsers(api);
  installErrors(api, context, routes);
  await installOpenApi(api, options.version);
  installLifecycle(api, context, state);
  registerRoutes(api, context, state);
  options.extend?.(api);
  await api.ready();
  api.server.on("upgrade", (request, socket, head) => upgrades.handle(request, socket, head));
  return {
    server: api.server,
    routes: [...routes.list(), ...UPGRADE_ROUTES],
    openApi: () => openApiDocument(api),
    inject: api.inject.bind(api),
    drain() {
      state.isDraining = true;
      context.streams.closeAll();
    },
    async [Symbol.asyncDispose]() {
      state.isDraining = true;
      context.streams.closeAll();
      api.server.closeAllConnections();
      await api.close();
    },
  };
}

function createFastify(settings: ApiSettings, nextId: () => string): Api {
  const api = fastify({
    bodyLimit: settings.bodyBytesMax,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: nextId,
    forceCloseConnections: true,
    return503OnClosing: false,
    routerOptions: {
      maxParamLength: PATH_PARAMETER_CHARS_MAX,
      ignoreTrailingSlash: false,
      caseSensitive: true,
    },
    serverFactory: (handler) => {
      const server = createServer(
        { headersTimeout: HEADERS_TIMEOUT_MS, requestTimeout: 0, noDelay: true },
        handler,
      );
      server.keepAliveTimeout = KEEP_ALIVE_MS;
      return server;
    },
    frameworkErrors: (error, request, reply) => {
      const known = new BelljarError("BAD_REQUEST", error.message.slice(0, 300), undefined, {
        cause: error,
      });
      // The hook gets a reply of no route; the plain type is the one that fits it.
      void (reply as FastifyReply)
        .code(known.status)
        .header("content-type", "application/json; charset=utf-8")
        .send(JSON.stringify(known.toEnvelope(request.id)));
    },
  }).withTypeProvider<ZodTypeProvider>();
  api.setValidatorCompiler(validatorCompiler);
  // Answers are made by typed code: checking each again costs more than it finds outside tests.
  api.setSerializerCompiler(
    settings.checkAnswers === true ? serializerCompiler : () => JSON.stringify,
  );
  return api;
}

/** JSON is the only body that is read into memory; an empty one counts as none. */
function installParsers(api: Api): void {
  api.removeAllContentTypeParsers();
  const parseJson = api.getDefaultJsonParser("error", "error");
  api.addContentTypeParser("application/json", { parseAs: "string" }, (request, text, done) => {
    if (text === "") done(null, undefined);
    else void parseJson(request, String(text), done);
  });
}

function installErrors(api: Api, context: RouteContext, routes: RouteTable): void {
  const { logger } = context;
  api.setErrorHandler((error, request, reply) => answerError(error, { request, reply, logger }));
  api.setNotFoundHandler((request, reply) => refuseUnknownRoute(request, reply, routes));
}

function registerRoutes(api: Api, context: RouteContext, state: { isDraining: boolean }): void {
  registerSandboxes(api, context);
  registerCommands(api, context);
  registerProcesses(api, context);
  registerFiles(api, context);
  registerFileContent(api, context);
  registerPreviews(api, context);
  registerTasks(api, context);
  registerEvents(api, context);
  registerTokens(api, context);
  registerStatus(api, context, state);
  let document: string | undefined;
  api.get(
    "/v1/openapi.json",
    { config: { policy: "public" }, schema: { tags: ["daemon"], summary: "This document" } },
    (_request, reply) => {
      document ??= JSON.stringify(openApiDocument(api));
      return reply.header("content-type", "application/json; charset=utf-8").send(document);
    },
  );
}
