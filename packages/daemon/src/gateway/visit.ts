import type { BelljarError } from "@belljar/protocol";
import type { Access, Target } from "./access.ts";
import type { LocalAnswer } from "./answers.ts";
import type { ClientRequest } from "./client-request.ts";
import { Exchange, type ExchangeOwner } from "./exchange.ts";
import type { ForwardFacts } from "./headers.ts";
import { isDevEndpoint } from "./host-check.ts";
import type { Previews } from "./previews.ts";
import type { PortTraffic, SandboxTraffic } from "./traffic.ts";
import type { Upstream } from "./upstream.ts";

/** `ms` between two signs of life that a visit gives of its sandbox. */
const TOUCH_INTERVAL_MS = 1_000;

/** One request to a preview, from the moment it is allowed until its answer, or its WebSocket, has ended. */
export class Visit implements ExchangeOwner {
  readonly request: ClientRequest;
  readonly target: Target;
  readonly access: Access;
  readonly traffic: SandboxTraffic<Visit>;
  readonly portTraffic: PortTraffic;
  /** Whether it has reached the app */
  isForwarded = false;
  learnsHostCheck = false;
  readonly #previews: Previews;
  readonly #rewriteHost: boolean;
  #isClosed = false;

  constructor(options: {
    previews: Previews;
    request: ClientRequest;
    target: Target;
    access: Access;
    traffic: SandboxTraffic<Visit>;
    rewriteHost: boolean;
  }) {
    this.#previews = options.previews;
    this.request = options.request;
    this.target = options.target;
    this.access = options.access;
    this.traffic = options.traffic;
    this.portTraffic = options.traffic.port(options.target.port);
    this.#rewriteHost = options.rewriteHost;
  }

  forward(upstream: Upstream): void {
    if (this.#isClosed) {
      upstream.destroy();
      return;
    }
    const { protocol, address } = this.request.facts;
    const isLocal =
      this.#rewriteHost ||
      this.portTraffic.refusesPublicHost ||
      isDevEndpoint(this.request.head.target);
    const localHost = isLocal ? `localhost:${this.target.port}` : undefined;
    const facts: ForwardFacts = { kind: "preview", protocol, address, localHost };
    this.isForwarded = true;
    this.learnsHostCheck = !isLocal;
    new Exchange(this.request, upstream, facts, this).start();
  }

  /** Answers instead of the app. */
  answer(answer: LocalAnswer): void {
    if (this.#isClosed) return;
    this.onEnded();
    this.request.answer(answer);
  }

  /** Refuses, or cuts what has begun. */
  fail(error: BelljarError): void {
    if (this.#isClosed) return;
    const { user } = this.request;
    this.onEnded();
    if (user === undefined) this.request.refuse(error);
    else user.onFailure(error);
  }

  onReleased(upstream: Upstream, keepMs: number | undefined): void {
    this.portTraffic.pool.release(upstream, keepMs);
  }

  onStale(request: ClientRequest): boolean {
    if (this.#isClosed || request.isEnded) return false;
    this.isForwarded = false;
    // From here the request has no exchange: whatever fails next must be answered by the visit.
    request.detach();
    void this.#previews.connectAndForward(this, request);
    return true;
  }

  onHostRefused(request: ClientRequest): boolean {
    this.portTraffic.refusesPublicHost = true;
    return this.onStale(request);
  }

  onTraffic(): void {
    const { sweeper, activity } = this.#previews.options;
    if (sweeper.nowMs - this.traffic.touchedMs < TOUCH_INTERVAL_MS) return;
    this.traffic.touchedMs = sweeper.nowMs;
    activity.touch(this.target.id);
  }

  onEnded(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#previews.close(this);
  }
}
