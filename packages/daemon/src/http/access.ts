import type { IncomingMessage } from "node:http";
import { BelljarError, TOKEN_SUBPROTOCOL_PREFIX } from "@belljar/protocol";
import type { Identity, TokenService } from "../auth/index.ts";
import { scopeCovers } from "../auth/index.ts";
import type { ApiSettings, RoutePolicy } from "./services.ts";

const HOST = /^(?<name>[a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$/;
const BEARER = /^bearer +([\x21-\x7e]{1,512})$/i;

/** Refuses a `Host` that the API does not answer for: a page of another site that resolves to us sends its own. */
export function checkHost(request: IncomingMessage, settings: ApiSettings): void {
  const host = request.headers.host?.toLowerCase() ?? "";
  const name = HOST.exec(host)?.groups?.["name"]?.replace(/\.$/, "");
  if (name === undefined || !settings.isApiHost(name)) {
    throw new BelljarError(
      "HOST_REFUSED",
      `the API does not answer for host ${JSON.stringify(host.slice(0, 200))}`,
    );
  }
}

/** The request's origin if it is another site's: undefined for programs and for our own pages. */
export function foreignOrigin(request: IncomingMessage): string | undefined {
  const { origin, host } = request.headers;
  if (origin === undefined) return undefined;
  const isOwn = origin === `http://${host ?? ""}` || origin === `https://${host ?? ""}`;
  return isOwn ? undefined : origin;
}

/** Refuses another site's origin that the operator has not allowed. */
export function checkOrigin(request: IncomingMessage, settings: ApiSettings): void {
  const origin = foreignOrigin(request);
  if (origin === undefined || settings.allowedOrigins.includes(origin)) return;
  throw new BelljarError(
    "ORIGIN_REFUSED",
    `origin ${JSON.stringify(origin.slice(0, 200))} may not call the API`,
  );
}

/** Who asks, if that is allowed by `policy`. There is no exception for loopback addresses. */
export async function authorize(
  request: IncomingMessage,
  policy: RoutePolicy,
  tokens: TokenService,
): Promise<Identity | null> {
  if (policy === "public") return null;
  const token = tokenOf(request);
  if (token === undefined)
    throw new BelljarError("UNAUTHENTICATED", "the request carries no token");
  const identity = await tokens.verify(token);
  if (identity === undefined)
    throw new BelljarError("UNAUTHENTICATED", "the token is unknown, expired or revoked");
  if (!scopeCovers(identity.scope, policy)) {
    const message = `token ${JSON.stringify(identity.name)} has the scope ${identity.scope}, this needs ${policy}`;
    throw new BelljarError("FORBIDDEN", message, { scope: identity.scope, needed: policy });
  }
  return identity;
}

/** The one token of a request; two are refused, as the one that counts would be a guess. */
function tokenOf(request: IncomingMessage): string | undefined {
  const found: string[] = [];
  const { rawHeaders } = request;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? "";
    if (name.length !== 13 || name.toLowerCase() !== "authorization") continue;
    const token = BEARER.exec(rawHeaders[index + 1] ?? "")?.[1];
    if (token === undefined)
      throw new BelljarError("UNAUTHENTICATED", "the Authorization header is not `Bearer <token>`");
    found.push(token);
  }
  // Only an upgrade may carry its token here: browsers cannot set headers on a WebSocket.
  if (request.headers.upgrade !== undefined) found.push(...subprotocolTokens(request));
  if (found.length > 1) throw new BelljarError("UNAUTHENTICATED", "the request carries two tokens");
  return found[0];
}

function subprotocolTokens(request: IncomingMessage): string[] {
  return (request.headers["sec-websocket-protocol"] ?? "")
    .split(",")
    .map((text) => text.trim())
    .filter((text) => text.startsWith(TOKEN_SUBPROTOCOL_PREFIX))
    .map((text) => text.slice(TOKEN_SUBPROTOCOL_PREFIX.length));
}
