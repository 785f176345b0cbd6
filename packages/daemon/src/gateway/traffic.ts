import type { SandboxId } from "../kernel/index.ts";
import type { PortPool, UpstreamPool } from "./upstream-pool.ts";

/** Sandboxes whose idle bookkeeping is kept; beyond it, what nobody uses is dropped. */
const SANDBOX_COUNT_MAX = 4_096;

/** What goes on at one port of one sandbox. */
export interface PortTraffic {
  readonly pool: PortPool;
  exchangeCount: number;
  /** Whether its server was seen to refuse the public host */
  refusesPublicHost: boolean;
}

/** What goes on in one sandbox: its visits, and the connections to its ports. */
export class SandboxTraffic<Visit> {
  readonly visits = new Set<Visit>();
  touchedMs = Number.NEGATIVE_INFINITY;
  readonly #ports = new Map<number, PortTraffic>();
  readonly #pool: UpstreamPool;

  constructor(pool: UpstreamPool) {
    this.#pool = pool;
  }

  port(port: number): PortTraffic {
    let traffic = this.#ports.get(port);
    if (traffic === undefined) {
      traffic = { pool: this.#pool.createPort(), exchangeCount: 0, refusesPublicHost: false };
      this.#ports.set(port, traffic);
    }
    return traffic;
  }

  get isQuiet(): boolean {
    return (
      this.visits.size === 0 && [...this.#ports.values()].every(({ pool }) => pool.idleCount === 0)
    );
  }

  /** Closes every idle connection to the sandbox. */
  dropIdle(): void {
    for (const { pool } of this.#ports.values()) pool.prune();
  }
}

/** The traffic of every sandbox that has some. */
export class TrafficTable<Visit> {
  readonly #sandboxes = new Map<SandboxId, SandboxTraffic<Visit>>();
  readonly #pool: UpstreamPool;

  constructor(pool: UpstreamPool) {
    this.#pool = pool;
  }

  find(id: SandboxId): SandboxTraffic<Visit> | undefined {
    return this.#sandboxes.get(id);
  }

  of(id: SandboxId): SandboxTraffic<Visit> {
    let traffic = this.#sandboxes.get(id);
    if (traffic === undefined) {
      if (this.#sandboxes.size >= SANDBOX_COUNT_MAX) this.#dropQuiet();
      traffic = new SandboxTraffic(this.#pool);
      this.#sandboxes.set(id, traffic);
    }
    return traffic;
  }

  #dropQuiet(): void {
    for (const [id, traffic] of this.#sandboxes) {
      if (traffic.isQuiet) this.#sandboxes.delete(id);
    }
  }
}
