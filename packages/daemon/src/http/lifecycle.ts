import { BelljarError } from "@belljar/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import { randomName } from "../kernel/index.ts";
import { authorize, checkHost, checkOrigin, foreignOrigin } from "./access.ts";
import type { Api, RouteContext } from "./services.ts";

const READS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);
const PREFLIGHT_SECONDS = "600";
const CORS_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE";
const CORS_HEADERS = "authorization, content-type, idempotency-key, last-event-id";
const EXPOSED_HEADERS = "x-request-id, retry-after, content-length";

/** Ids of requests: unique over restarts, and cheap. */
export function requestIds(): () => string {
  const boot = randomName(8);
  let count = 0;
  return () => `req-${boot}-${(count += 1).toString(36)}`;
}

/**
 * What every request passes, in this order: request id and security headers, host, CORS, draining, body
 * cap, origin, authentication. The route comes after that, so nothing of it runs for a refused request.
 */
export function installLifecycle(
  api: Api,
  context: RouteContext,
  state: { isDraining: boolean },
): void {
  const { clock, settings, tokens } = context;
  api.decorateRequest("identity", null);
  api.decorateRequest("startedMs", 0);
  api.decorateRequest("errorCode", null);
  api.addHook("onRequest", async (request, reply) => {
    request.startedMs = clock.monotonic();
    setSecurityHeaders(request, reply);
    const { config } = request.routeOptions;
    const isHealth = config.isHealth === true;
    // Probes come by whatever address they have, and must be answered while stopping.
    if (!isHealth) checkHost(request.raw, settings);
    if (answerCors(request, reply, settings.allowedOrigins)) return reply;
    if (state.isDraining && !isHealth) throw new BelljarError("DRAINING", "the daemon is stopping");
    if (config.streamsBody !== true) capBody(request, settings.bodyBytesMax);
    if (!READS.has(request.method)) checkOrigin(request.raw, settings);
    // An unknown route has no policy: its answer says so without looking at any token.
    request.identity = await authorize(request.raw, config.policy ?? "public", tokens);
    checkIdempotencyKey(request);
    return undefined;
  });
  installCanonicalLine(api, context);
}

function setSecurityHeaders(request: FastifyRequest, reply: FastifyReply): void {
  reply.headers({
    "x-request-id": request.id,
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
  });
}

/** Sets what an allowed origin needs; true when the request was a preflight and is answered. */
function answerCors(
  request: FastifyRequest,
  reply: FastifyReply,
  allowed: readonly string[],
): boolean {
  const { origin } = request.headers;
  if (origin === undefined) return false;
  reply.header("vary", "origin");
  if (foreignOrigin(request.raw) === undefined || !allowed.includes(origin)) return false;
  reply.headers({
    "access-control-allow-origin": origin,
    "access-control-expose-headers": EXPOSED_HEADERS,
    "cross-origin-resource-policy": "cross-origin",
  });
  if (
    request.method !== "OPTIONS" ||
    request.headers["access-control-request-method"] === undefined
  )
    return false;
  reply
    .code(204)
    .headers({
      "access-control-allow-methods": CORS_METHODS,
      "access-control-allow-headers": CORS_HEADERS,
      "access-control-max-age": PREFLIGHT_SECONDS,
    })
    .send();
  return true;
}

/** Refuses by the announced length, before a byte is read; what comes without one is counted by the parser. */
function capBody(request: FastifyRequest, bytesMax: number): void {
  const announced = Number(request.headers["content-length"] ?? 0);
  if (announced > bytesMax) {
    const message = `the body has ${announced} bytes, the most is ${bytesMax}`;
    throw new BelljarError("BODY_TOO_LARGE", message, { bytesMax });
  }
}

function checkIdempotencyKey(request: FastifyRequest): void {
  const key = request.headers["idempotency-key"];
  if (key === undefined) return;
  if (request.routeOptions.config.takesIdempotencyKey !== true) {
    throw new BelljarError(
      "BAD_REQUEST",
      `${request.method} ${request.routeOptions.url ?? ""} takes no Idempotency-Key`,
    );
  }
  if (typeof key !== "string" || !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new BelljarError(
      "BAD_REQUEST",
      "the Idempotency-Key must be 1 to 255 visible ASCII characters",
    );
  }
}

/** One line a request: what is looked at goes to debug, what changes something to info, bugs to error. */
function installCanonicalLine(api: Api, { logger, clock }: RouteContext): void {
  api.addHook("onResponse", (request, reply, done) => {
    const status = reply.statusCode;
    const fields = {
      requestId: request.id,
      method: request.method,
      route: request.routeOptions.url ?? "unknown",
      ...idsOf(request.params),
      status,
      outcome: status < 400 ? "ok" : "failed",
      durationMs: Math.round((clock.monotonic() - request.startedMs) * 100) / 100,
      caller: request.identity?.name ?? null,
      ...(request.errorCode === null ? {} : { errorCode: request.errorCode }),
    };
    if (status >= 500) logger.warn("http.request", fields);
    else if (READS.has(request.method)) logger.debug("http.request", fields);
    else logger.info("http.request", fields);
    done();
  });
}

function idsOf(params: unknown): { sandboxId?: string; taskId?: string } {
  if (typeof params !== "object" || params === null) return {};
  const { id, taskId } = params as Record<string, unknown>;
  return {
    ...(typeof id === "string" ? { sandboxId: id.slice(0, 64) } : {}),
    ...(typeof taskId === "string" ? { taskId: taskId.slice(0, 64) } : {}),
  };
}
