import { BelljarError } from "@belljar/protocol";
import type { ErrorCode } from "@belljar/protocol";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "../log/index.ts";
import type { RouteTable } from "./route-table.ts";

const MESSAGE_CHARS_MAX = 2000;

/** Fastify's own refusals, in our words. */
const FASTIFY_CODES: Readonly<Record<string, ErrorCode>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: "BODY_TOO_LARGE",
  FST_ERR_CTP_INVALID_MEDIA_TYPE: "MEDIA_TYPE_UNSUPPORTED",
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: "BAD_REQUEST",
  FST_ERR_CTP_INVALID_JSON_BODY: "BAD_REQUEST",
  FST_ERR_BAD_URL: "BAD_REQUEST",
};

/** Anything thrown, as the error that leaves through the API. Bugs become INTERNAL and say nothing more. */
export function toBelljarError(error: unknown): BelljarError {
  if (BelljarError.is(error)) return error;
  if (error instanceof Error && "statusCode" in error && typeof error.statusCode === "number") {
    const known = "code" in error ? FASTIFY_CODES[String(error.code)] : undefined;
    const message = error.message.slice(0, MESSAGE_CHARS_MAX);
    if (known !== undefined) return new BelljarError(known, message, undefined, { cause: error });
    if (error.statusCode >= 400 && error.statusCode < 500) {
      return new BelljarError("BAD_REQUEST", message, undefined, { cause: error });
    }
  }
  return new BelljarError("INTERNAL", "an unexpected error", undefined, { cause: error });
}

/** Answers with the envelope; only bugs are logged here, the canonical line names every other code. */
export function answerError(
  error: unknown,
  context: { request: FastifyRequest; reply: FastifyReply; logger: Logger },
): FastifyReply {
  const { request, reply, logger } = context;
  const known = isClientGone(request, error)
    ? new BelljarError("CANCELLED", "the client went away", undefined, { cause: error })
    : toBelljarError(error);
  request.errorCode = known.code;
  if (known.code === "INTERNAL") logger.error("http.bug", { requestId: request.id, error });
  if (known.code === "UNAUTHENTICATED") reply.header("www-authenticate", 'Bearer realm="belljar"');
  if (known.retryable && (known.status === 503 || known.status === 429))
    reply.header("retry-after", "1");
  // A refused body is left unread: the connection cannot be used for another request.
  if (hasUnreadBody(request)) reply.header("connection", "close");
  return reply
    .code(known.status)
    .removeHeader("content-length")
    .header("content-type", "application/json; charset=utf-8")
    .serializer(JSON.stringify)
    .send(known.toEnvelope(request.id));
}

/** What a broken upload throws is no bug: its connection is gone. */
function isClientGone({ raw }: FastifyRequest, error: unknown): boolean {
  return raw.destroyed && !raw.complete && !BelljarError.is(error);
}

function hasUnreadBody(request: FastifyRequest): boolean {
  const { headers, complete } = request.raw;
  const hasBody =
    headers["transfer-encoding"] !== undefined || Number(headers["content-length"] ?? 0) > 0;
  return hasBody && !complete;
}

/** 404, or 405 with `Allow` where the path exists with other methods. */
export function refuseUnknownRoute(
  request: FastifyRequest,
  reply: FastifyReply,
  routes: RouteTable,
): never {
  const path = request.url.split("?", 1)[0] ?? "";
  const shown = path.slice(0, 200);
  const methods = routes.methodsOf(path);
  if (methods.length === 0) {
    throw new BelljarError("ROUTE_NOT_FOUND", `no route ${request.method} ${shown}`);
  }
  reply.header("allow", methods.join(", "));
  throw new BelljarError("METHOD_NOT_ALLOWED", `${request.method} is not allowed on ${shown}`, {
    allowed: methods,
  });
}
