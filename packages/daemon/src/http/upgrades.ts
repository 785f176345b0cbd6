import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { BelljarError, EXEC_SUBPROTOCOL } from "@belljar/protocol";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";
import type { Identity } from "../auth/index.ts";
import { parseSandboxId } from "../kernel/index.ts";
import type { SandboxId } from "../kernel/index.ts";
import { authorize, checkHost, checkOrigin } from "./access.ts";
import { toExecRequest } from "./command.ts";
import { toBelljarError } from "./errors.ts";
import { ExecSlots } from "./exec-slots.ts";
import { ExecSocket } from "./exec-socket.ts";
import type { ExecSocketOptions, StartMessage } from "./exec-socket.ts";
import { processTarget } from "./request.ts";
import type { RouteContext } from "./services.ts";

const EXEC_PATH = /^\/v1\/sandboxes\/([^/?]{1,200})\/exec\/stream$/;
const PROCESS_PATH = /^\/v1\/sandboxes\/([^/?]{1,200})\/processes\/([A-Za-z0-9._-]{1,64})\/stream$/;

/** The WebSocket routes, for documents and for the snapshot of the surface. */
export const UPGRADE_ROUTES = [
  "WS /v1/sandboxes/:id/exec/stream operate",
  "WS /v1/sandboxes/:id/processes/:pid/stream operate",
] as const;

interface Target {
  readonly id: SandboxId;
  /** Pid or tag of the process to attach to; undefined starts one */
  readonly pid?: string;
}

/** Answers WebSocket upgrades of the API: the same checks as for any request, then the exec protocol. */
export class Upgrades {
  readonly #server: WebSocketServer;
  readonly #context: RouteContext;
  readonly #state: { isDraining: boolean };
  readonly #nextId: () => string;
  readonly #slots: ExecSlots<SandboxId>;

  constructor(
    context: RouteContext,
    options: { state: { isDraining: boolean }; nextId: () => string },
  ) {
    this.#context = context;
    this.#state = options.state;
    this.#nextId = options.nextId;
    this.#slots = new ExecSlots(context.settings.execsPerSandboxMax);
    this.#server = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: context.settings.bodyBytesMax,
      // Only our own name is ever chosen: a token that travels as a subprotocol is not echoed.
      handleProtocols: (offered) => (offered.has(EXEC_SUBPROTOCOL) ? EXEC_SUBPROTOCOL : false),
    });
  }

  /** For the http server's `upgrade` event. */
  handle(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const requestId = this.#nextId();
    const startedMs = this.#context.clock.monotonic();
    const onError = () => socket.destroy();
    socket.on("error", onError);
    const note = (fields: Record<string, unknown>) => {
      const durationMs = Math.round(this.#context.clock.monotonic() - startedMs);
      this.#context.logger.info("http.stream", { requestId, durationMs, ...fields });
    };
    void this.#accept(request, socket, head)
      .then((accepted) => accepted(note))
      .catch((error: unknown) => {
        const known = toBelljarError(error);
        if (known.code === "INTERNAL") this.#context.logger.error("http.bug", { requestId, error });
        note({ outcome: "failed", errorCode: known.code });
        refuse(socket, known, requestId);
      });
  }

  async #accept(request: IncomingMessage, socket: Duplex, head: Buffer) {
    const { settings, tokens } = this.#context;
    checkHost(request, settings);
    if (this.#state.isDraining) throw new BelljarError("DRAINING", "the daemon is stopping");
    checkOrigin(request, settings);
    const target = targetOf(request.url ?? "");
    const identity = await authorize(request, "operate", tokens);
    if (request.headers.upgrade?.toLowerCase() !== "websocket") {
      throw new BelljarError("BAD_REQUEST", "only WebSocket upgrades are served");
    }
    await this.#context.sandboxes.get(target.id);
    const { ended } = await this.#handshake(target, { request, socket, head, identity });
    return async (note: (fields: Record<string, unknown>) => void) => {
      await ended;
      note({ outcome: "ok", sandboxId: target.id, caller: identity?.name ?? null });
    };
  }

  #handshake(
    target: Target,
    {
      request,
      socket,
      head,
      identity,
    }: { request: IncomingMessage; socket: Duplex; head: Buffer; identity: Identity | null },
  ): Promise<{ ended: Promise<void> }> {
    // ws answers a malformed handshake itself and then never calls back; the socket is closed by it.
    return new Promise((resolve) => {
      this.#server.handleUpgrade(request, socket, head, (webSocket) => {
        // Served in this very turn: a message that comes before anyone listens is lost.
        resolve({ ended: this.#serve(webSocket, target, identity) });
      });
    });
  }

  async #serve(webSocket: WebSocket, target: Target, identity: Identity | null): Promise<void> {
    const { sandboxes, streams, clock, logger } = this.#context;
    using stream = streams.open(identity);
    using slot = new DisposableStack();
    const { signal } = stream.controller;
    const options: ExecSocketOptions = {
      clock,
      logger,
      signal,
      awaitsStart: target.pid === undefined,
      onTraffic: () => sandboxes.touch(target.id),
      open: async (start) => {
        slot.use(this.#slots.take(target.id));
        slot.use(sandboxes.busy(target.id));
        return this.#open(target, start, signal);
      },
    };
    sandboxes.opened(target.id);
    try {
      await new ExecSocket(webSocket, options).run();
    } finally {
      sandboxes.closed(target.id);
    }
  }

  async #open(target: Target, start: StartMessage | undefined, signal: AbortSignal) {
    const { sandboxes } = this.#context;
    const guest = await sandboxes.guest(target.id, { signal });
    if (start === undefined) return guest.attach(processTarget(target.pid ?? ""));
    const { terminal, stdin, keep, tag } = start;
    return guest.exec({
      ...toExecRequest(start, await sandboxes.commandDefaults(target.id)),
      stdin,
      keep,
      ...(tag === undefined ? {} : { tag }),
      ...(terminal === undefined ? {} : { terminal }),
    });
  }
}

function targetOf(url: string): Target {
  const path = url.split("?", 1)[0] ?? "";
  const process = PROCESS_PATH.exec(path);
  const found = process ?? EXEC_PATH.exec(path);
  if (found === null)
    throw new BelljarError("ROUTE_NOT_FOUND", `no WebSocket at ${path.slice(0, 200)}`);
  const text = found[1] ?? "";
  const id = parseSandboxId(text);
  if (id === undefined) {
    throw new BelljarError(
      "BAD_REQUEST",
      `path.id: must be 20 characters of [a-z0-9], got ${JSON.stringify(text)}`,
    );
  }
  const pid = process?.[2];
  return pid === undefined ? { id } : { id, pid };
}

/** A plain HTTP answer on a connection that does not become a WebSocket. */
function refuse(socket: Duplex, error: BelljarError, requestId: string): void {
  if (!socket.writable) return;
  const body = JSON.stringify(error.toEnvelope(requestId));
  const head = [
    `HTTP/1.1 ${error.status} Refused`,
    "content-type: application/json; charset=utf-8",
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
    "cache-control: no-store",
    "x-content-type-options: nosniff",
    `x-request-id: ${requestId}`,
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`);
}
