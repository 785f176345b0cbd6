import { BelljarError } from "@belljar/protocol";
import type { Clock } from "../kernel/index.ts";
import type { Target } from "./access.ts";
import { fieldOf, type LocalAnswer, pageAnswer } from "./answers.ts";
import type { ClientRequest, ClientUser } from "./client-request.ts";
import { PLAIN_COOKIE, SECURE_COOKIE } from "./cookies.ts";
import { kept } from "./direct-reads.ts";
import type { Grants } from "./grants.ts";
import { enterPage } from "./pages/index.ts";
import { notFound, type Previews } from "./previews.ts";
import type { Throttle } from "./throttle.ts";
import type { WakeHold } from "./wake-hold.ts";

/** Bytes of the body that `/.belljar/session` reads. */
const SESSION_BODY_BYTES_MAX = 4_096;
const PROGRESS_INTERVAL_MS = 1_000;

export interface ReservedOptions {
  readonly grants: Grants;
  readonly previews: Previews;
  readonly hold: WakeHold;
  readonly clock: Clock;
  readonly throttle: Throttle;
  /** Origins that may frame the enter page */
  readonly frameAncestors: readonly string[];
}

/** Whether a path is one of ours on preview hosts; in every spelling that an app might decode to it. */
export function isReserved(target: string): boolean {
  const first = target.charAt(1);
  if (first !== "." && first !== "%") return false;
  const path = (target.split("?", 1)[0] ?? "").replaceAll(/%2e/gi, ".").toLowerCase();
  return path === "/.belljar" || path.startsWith("/.belljar/") || path.startsWith("/.belljar%");
}

/** The gateway's own endpoints on every preview host, existing or not: enter, session, boot. */
export class Reserved {
  readonly #options: ReservedOptions;

  constructor(options: ReservedOptions) {
    this.#options = options;
  }

  handle(request: ClientRequest, target: Target): void {
    const path = request.head.target.split("?", 1)[0];
    const { method } = request.head;
    if (path === "/.belljar/enter" && (method === "GET" || method === "HEAD")) {
      request.answer(pageAnswer(200, enterPage(this.#options.frameAncestors)));
    } else if (path === "/.belljar/session" && method === "POST") {
      void this.#session(request, target);
    } else if (path === "/.belljar/boot" && method === "GET") {
      void this.#boot(request, target);
    } else {
      request.refuse(notFound());
    }
  }

  async #session(request: ClientRequest, target: Target): Promise<void> {
    const { throttle, grants, clock } = this.#options;
    const { address } = request.facts;
    try {
      if (throttle.isExceeded(address))
        throw new BelljarError("PREVIEW_LIMIT", "too many failed tries from this address");
      refuseForeignOrigin(request);
      const { token, to, isFramed } = parseSession(await readBody(request));
      const session = await grants.enter(token, { sandboxId: target.id, port: target.port });
      const lifeS = Math.max(1, Math.floor((session.expiresAtMs - clock.now()) / 1_000));
      const cookie = sessionCookie(request, { token: session.token, lifeS, isFramed });
      request.answer({
        ...json(200, { to: safePath(to, request.origin) }),
        headers: { "Set-Cookie": cookie },
      });
    } catch (error) {
      if (BelljarError.is(error, "PREVIEW_GRANT_INVALID")) throttle.note(address);
      request.refuse(
        BelljarError.is(error)
          ? error
          : new BelljarError("INTERNAL", "the session could not be made"),
      );
    }
  }

  /** Tells a boot page how far its wake has come, and keeps the connection to the app that it makes. */
  async #boot(request: ClientRequest, target: Target): Promise<void> {
    const { previews, hold, clock } = this.#options;
    if (!(await previews.mayEnter(request, target).catch(() => false))) {
      request.refuse(notFound());
      return;
    }
    if (request.isEnded) return;
    const startedMs = clock.monotonic();
    let state = "waking";
    const tell = () =>
      sendEvent(request, "state", { state, elapsedMs: Math.round(clock.monotonic() - startedMs) });
    request.write(
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\n",
    );
    using ticker = clock.every(PROGRESS_INTERVAL_MS, tell);
    void ticker;
    try {
      const stream = await hold.connect(target, request.signal, (step) => {
        state = step;
        tell();
      });
      previews.keep(target, stream);
      state = "ready";
      tell();
    } catch (error) {
      sendEvent(request, "failed", { text: failureText(error) });
    }
    request.finish(false);
  }
}

function failureText(error: unknown): string {
  if (BelljarError.is(error, "PREVIEW_UNREACHABLE"))
    return "It is awake, but no server listens on this port.";
  if (BelljarError.is(error, "PREVIEW_WAKE_TIMEOUT")) return "It takes longer than usual.";
  return "It could not be started.";
}

function sendEvent(request: ClientRequest, event: string, data: unknown): void {
  if (!request.isEnded) request.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
}

function json(status: number, value: unknown): LocalAnswer {
  return {
    status,
    body: `${JSON.stringify(value)}\n`,
    contentType: "application/json; charset=utf-8",
  };
}

/** Another site must not be able to log a visitor in to a preview of its choice. */
function refuseForeignOrigin(request: ClientRequest): void {
  const site = fieldOf(request.head, "sec-fetch-site");
  const origin = fieldOf(request.head, "origin");
  // Browsers leave a default port out of both headers; other clients may not.
  const own = URL.parse(request.origin)?.origin;
  if (
    own === undefined ||
    origin?.toLowerCase() !== own ||
    (site !== undefined && site !== "same-origin")
  ) {
    throw new BelljarError("ORIGIN_REFUSED", "a session is only made from the preview's own page");
  }
}

function parseSession(text: string): { token: string; to: string; isFramed: boolean } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new BelljarError("BAD_REQUEST", "the body is not JSON");
  }
  if (
    typeof value !== "object" ||
    value === null ||
    !("token" in value) ||
    typeof value.token !== "string"
  ) {
    throw new BelljarError("BAD_REQUEST", "the body has no token");
  }
  const to = "to" in value && typeof value.to === "string" ? value.to : "/";
  return { token: value.token, to, isFramed: "isFramed" in value && value.isFramed === true };
}

/** A path of this origin, or `/`: never another site, whatever the spelling. */
export function safePath(to: string, origin: string): string {
  if (!/^\/(?![/\\])[\x21-\x7e]*$/.test(to) || to.includes("\\")) return "/";
  const url = URL.parse(to, origin);
  if (url === null || url.origin !== URL.parse(origin)?.origin || isReserved(url.pathname))
    return "/";
  return url.pathname.startsWith("//") ? "/" : url.pathname + url.search + url.hash;
}

/**
 * Over https the prefixed name, which no other host can set. In a frame of another site only a
 * partitioned `SameSite=None` cookie is sent back, and only with `Secure`; browsers that take
 * `Secure` from http://*.localhost take that one too.
 */
export function sessionCookie(
  request: { facts: { protocol: string }; head: { authority: { host: string } } },
  session: { token: string; lifeS: number; isFramed: boolean },
): string {
  const isLocal = request.head.authority.host.endsWith(".localhost");
  const isHttps = request.facts.protocol === "https";
  const isSecure = isHttps || (session.isFramed && isLocal);
  const name = isHttps ? SECURE_COOKIE : PLAIN_COOKIE;
  const site = session.isFramed && isSecure ? "SameSite=None; Partitioned" : "SameSite=Lax";
  return `${name}=${session.token}; Path=/; Max-Age=${session.lifeS}; HttpOnly; ${isSecure ? "Secure; " : ""}${site}`;
}

async function readBody(request: ClientRequest): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const parts: Buffer[] = [];
  let size = 0;
  const user: ClientUser = {
    onBody(more, isDone) {
      for (const part of more) size += part.length;
      parts.push(...more.map(kept));
      if (size > SESSION_BODY_BYTES_MAX)
        reject(new BelljarError("BODY_TOO_LARGE", "the body is too large"));
      else if (isDone) resolve(Buffer.concat(parts).toString("utf8"));
    },
    onClientDrain: () => undefined,
    onClientEnd: () => request.connection.destroy(),
    onClientGone: () => reject(new BelljarError("CANCELLED", "the visitor left")),
    onFailure: reject,
  };
  request.attach(user);
  if (request.isBodyDone) resolve("");
  else request.wantBody(true);
  return await promise;
}
