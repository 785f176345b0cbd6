import { createServer, type Server as HttpServer } from "node:http";
import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { BelljarError, type SandboxState, type Visibility } from "@belljar/protocol";
import { newSandboxId, type SandboxId } from "../../kernel/index.ts";
import {
  createGateway,
  type Gateway,
  type GatewayOptions,
  type GrantRow,
  type GrantStore,
  type PreviewRecord,
} from "../index.ts";

/** Grants in memory, with the semantics the store must have. */
export class MemoryGrants implements GrantStore {
  readonly rows = new Map<string, GrantRow>();

  insert(grant: GrantRow): void {
    this.rows.set(grant.id, grant);
  }

  findByHash(tokenHash: string): GrantRow | undefined {
    return [...this.rows.values()].find((row) => row.tokenHash === tokenHash);
  }

  consume(id: string): boolean {
    const row = this.rows.get(id);
    if (row === undefined || row.usedAtMs !== null) return false;
    this.rows.set(id, { ...row, usedAtMs: 1 });
    return true;
  }

  revoke(id: string): void {
    const row = this.rows.get(id);
    if (row !== undefined) this.rows.set(id, { ...row, revokedAtMs: 1 });
  }

  list(sandboxId: SandboxId): GrantRow[] {
    return [...this.rows.values()].filter((row) => row.sandboxId === sandboxId);
  }
}

/** A gateway with one sandbox whose ports are real loopback servers of the test. */
export interface World extends AsyncDisposable {
  readonly id: SandboxId;
  readonly gateway: Gateway;
  readonly port: number;
  readonly grants: MemoryGrants;
  /** What happened: `wake`, `touch`, `opened`, `closed` */
  readonly events: string[];
  /** Sandbox ports and the loopback ports behind them */
  readonly ports: Map<number, number>;
  state: SandboxState;
  visibility: Visibility;
  rewriteHost: boolean;
  wake: () => Promise<void>;
  dialCount: number;
  /** API tokens that may see the sandbox */
  readonly tokens: Set<string>;
  host(port?: number): string;
  changed(): void;
}

export async function createWorld(options: Partial<GatewayOptions> = {}): Promise<World> {
  const id = newSandboxId();
  const listeners = new Set<(changed: SandboxId) => void>();
  const dialled = new Set<Duplex>();
  const apiServer: HttpServer =
    options.apiServer ?? createServer((_request, response) => response.end("api"));
  const grants = new MemoryGrants();
  const world: Omit<World, "gateway" | "port" | typeof Symbol.asyncDispose> = {
    id,
    grants,
    events: [],
    ports: new Map(),
    state: "running",
    visibility: "public",
    rewriteHost: false,
    dialCount: 0,
    tokens: new Set(),
    wake: async () => {
      world.state = "running";
    },
    host: (port = 3000) => `${port}-${id}.localhost`,
    changed() {
      for (const listener of listeners) listener(id);
    },
  };
  const gateway = createGateway({
    domain: "localhost",
    listen: { host: "127.0.0.1", port: 0 },
    apiServer,
    grantStore: grants,
    directory: {
      find: (sandboxId, port): PreviewRecord | undefined =>
        sandboxId === id && world.ports.has(port)
          ? {
              sandboxId,
              port,
              visibility: world.visibility,
              state: world.state,
              rewriteHost: world.rewriteHost,
              revision: 1,
            }
          : undefined,
    },
    waker: {
      wake: async () => {
        world.events.push("wake");
        await world.wake();
      },
    },
    dialer: {
      dial: async (_id, port, signal) => {
        world.dialCount += 1;
        const socket = await dialLoopback(world.ports.get(port) ?? 1, signal);
        dialled.add(socket);
        socket.once("close", () => dialled.delete(socket));
        return socket;
      },
    },
    activity: {
      touch: () => world.events.push("touch"),
      opened: () => world.events.push("opened"),
      closed: () => world.events.push("closed"),
    },
    tokens: { mayPreview: async (token, sandboxId) => sandboxId === id && world.tokens.has(token) },
    changes: {
      onChange(listener) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    },
    ...options,
  });
  await gateway.listen();
  return Object.assign(world, {
    gateway,
    port: gateway.address?.port ?? 0,
    async [Symbol.asyncDispose]() {
      await gateway.close({ graceMs: 0 });
      for (const stream of dialled) stream.destroy();
      apiServer.closeAllConnections();
    },
  });
}

export async function dialLoopback(port: number, signal?: AbortSignal): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  const socket = connect({ host: "127.0.0.1", port, noDelay: true, allowHalfOpen: true });
  socket.once("connect", () => resolve(undefined));
  socket.once("error", (error) => reject(new BelljarError("PREVIEW_UNREACHABLE", error.message)));
  signal?.addEventListener("abort", () => socket.destroy(), { once: true });
  socket.once("close", () => reject(new BelljarError("PREVIEW_UNREACHABLE", "closed")));
  await promise;
  return socket;
}
