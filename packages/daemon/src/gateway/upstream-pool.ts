import type { Duplex } from "node:stream";
import type { GatewayLimits } from "./limits.ts";
import type { Expirable, Sweeper } from "./sweeper.ts";
import { Upstream } from "./upstream.ts";

/**
 * A request that must not be sent twice only takes a connection that rested less than this: an app
 * that closes idle connections does so after seconds, and closing races with sending.
 */
const FRESH_IDLE_MS_MAX = 1_000;

/** Idle connections to one port of one sandbox, the most recently used last. */
export class PortPool {
  readonly #idle: Upstream[] = [];
  readonly #owner: UpstreamPool;

  constructor(owner: UpstreamPool) {
    this.#owner = owner;
  }

  get idleCount(): number {
    return this.#idle.length;
  }

  /** Wraps a fresh connection. */
  adopt(stream: Duplex): Upstream {
    return new Upstream(stream, (upstream) => this.#forget(upstream));
  }

  /** The warmest idle connection, if there is one that may carry this request. */
  take(isReplayable: boolean): Upstream | undefined {
    for (;;) {
      const upstream = this.#idle.at(-1);
      if (upstream === undefined) return undefined;
      if (!isReplayable && this.#owner.nowMs - upstream.idleSinceMs > FRESH_IDLE_MS_MAX)
        return undefined;
      this.#idle.pop();
      this.#owner.idleCount -= 1;
      if (upstream.isUsable) return upstream;
      upstream.destroy();
    }
  }

  /** Keeps a connection whose exchange ended cleanly; `keepMs` is what the app offered, if it did. */
  release(upstream: Upstream, keepMs: number | undefined): void {
    upstream.detach();
    if (!upstream.isUsable || !this.#owner.hasRoom(this.#idle.length)) {
      upstream.destroy();
      return;
    }
    upstream.idleSinceMs = this.#owner.nowMs;
    upstream.idleUntilMs =
      upstream.idleSinceMs +
      Math.min(keepMs ?? Number.POSITIVE_INFINITY, this.#owner.idleTimeoutMs);
    this.#idle.push(upstream);
    this.#owner.noteIdle(this);
  }

  /** Closes what has rested too long; everything with no argument. */
  prune(nowMs = Number.POSITIVE_INFINITY): void {
    for (const upstream of this.#idle.filter(({ idleUntilMs }) => idleUntilMs <= nowMs)) {
      this.#forget(upstream);
      upstream.destroy();
    }
  }

  #forget(upstream: Upstream): void {
    const place = this.#idle.indexOf(upstream);
    if (place === -1) return;
    this.#idle.splice(place, 1);
    this.#owner.idleCount -= 1;
  }
}

/** All idle connections; bounds them and closes them in time. */
export class UpstreamPool implements Expirable {
  deadlineMs = 0;
  idleCount = 0;
  readonly idleTimeoutMs: number;
  readonly #limits: GatewayLimits;
  readonly #sweeper: Sweeper;
  readonly #resting = new Set<PortPool>();

  constructor(limits: GatewayLimits, sweeper: Sweeper) {
    this.#limits = limits;
    this.#sweeper = sweeper;
    this.idleTimeoutMs = limits.poolIdleTimeoutMs;
  }

  get nowMs(): number {
    return this.#sweeper.nowMs;
  }

  createPort(): PortPool {
    return new PortPool(this);
  }

  hasRoom(portIdleCount: number): boolean {
    return (
      portIdleCount < this.#limits.poolIdlePerPortMax && this.idleCount < this.#limits.poolIdleMax
    );
  }

  noteIdle(port: PortPool): void {
    this.idleCount += 1;
    if (this.#resting.has(port)) return;
    this.#resting.add(port);
    this.#sweeper.add(this);
  }

  onDeadline(): void {
    for (const port of this.#resting) {
      port.prune(this.#sweeper.nowMs);
      if (port.idleCount === 0) this.#resting.delete(port);
    }
    this.deadlineMs = this.#sweeper.nowMs + 1_000;
    if (this.#resting.size === 0) this.#sweeper.remove(this);
  }

  /** Closes every idle connection. */
  close(): void {
    for (const port of this.#resting) port.prune();
    this.#resting.clear();
    this.#sweeper.remove(this);
  }
}
