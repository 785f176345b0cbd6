import type { Duplex } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import type { Clock, SandboxId } from "../kernel/index.ts";
import type { Access, AccessControl, Target } from "./access.ts";
import { fieldOf, isNavigation, pageAnswer } from "./answers.ts";
import type { ClientRequest } from "./client-request.ts";
import { isReplayable } from "./exchange.ts";
import type { GatewayLimits } from "./limits.ts";
import { bootPage } from "./pages/index.ts";
import type { ActivitySink, PreviewDirectory, PreviewRecord } from "./ports.ts";
import type { Expirable, Sweeper } from "./sweeper.ts";
import { type SandboxTraffic, TrafficTable } from "./traffic.ts";
import { UpstreamPool } from "./upstream-pool.ts";
import { Visit } from "./visit.ts";
import type { WakeHold } from "./wake-hold.ts";

const EXPIRY_CHECK_MS = 1_000;
/** Programs that fetch a page to index or to sketch it; they wake no sandbox. Cubot makes telephones. */
const CRAWLER = /(?<!cu)bot\b|crawl|spider|slurp|facebookexternalhit|embedly|linkpreview|whatsapp/i;

export interface PreviewsOptions {
  readonly directory: PreviewDirectory;
  readonly activity: ActivitySink;
  readonly access: AccessControl;
  readonly hold: WakeHold;
  readonly clock: Clock;
  readonly limits: GatewayLimits;
  readonly sweeper: Sweeper;
}

/** Answers requests to preview hosts: who may, wake if need be, and on to the app. */
export class Previews implements Expirable {
  deadlineMs = 0;
  readonly options: PreviewsOptions;
  readonly #pool: UpstreamPool;
  readonly #traffic: TrafficTable<Visit>;
  readonly #expiring = new Set<Visit>();

  constructor(options: PreviewsOptions) {
    this.options = options;
    this.#pool = new UpstreamPool(options.limits, options.sweeper);
    this.#traffic = new TrafficTable(this.#pool);
  }

  handle(request: ClientRequest, target: Target): void {
    const record = this.options.directory.find(target.id, target.port);
    const access = this.options.access.decide(request, target, record);
    if (access instanceof Promise) void this.#enterLater(request, target, access);
    else this.#enter(request, target, record, access);
  }

  /** Who may see it, for the endpoints of the gateway itself. */
  async mayEnter(request: ClientRequest, target: Target): Promise<boolean> {
    const record = this.options.directory.find(target.id, target.port);
    return (await this.options.access.decide(request, target, record)) !== undefined;
  }

  /** Keeps a connection that was made without a request, for the next one. */
  keep(target: Target, stream: Duplex): void {
    const { pool } = this.#traffic.of(target.id).port(target.port);
    pool.release(pool.adopt(stream), undefined);
  }

  async #enterLater(
    request: ClientRequest,
    target: Target,
    decision: Promise<Access | undefined>,
  ): Promise<void> {
    const { changeCount } = this.options.access;
    try {
      const access = await decision;
      // Looked up again: visibility may have changed while the credential was checked.
      const record = this.options.directory.find(target.id, target.port);
      const visit = this.#enter(request, target, record, access);
      // So may the credential itself, and a visit that did not exist yet was not judged then.
      if (
        visit !== undefined &&
        record !== undefined &&
        this.options.access.changeCount !== changeCount
      )
        void this.#judgeAgain(visit, record);
    } catch (error) {
      request.refuse(
        BelljarError.is(error)
          ? error
          : new BelljarError("INTERNAL", "the visitor could not be checked"),
      );
    }
  }

  #enter(
    request: ClientRequest,
    target: Target,
    record: PreviewRecord | undefined,
    access: Access | undefined,
  ): Visit | undefined {
    if (request.isEnded) return undefined;
    if (access === undefined || record === undefined) {
      request.refuse(notFound());
      return undefined;
    }
    const traffic = this.#traffic.of(target.id);
    if (traffic.port(target.port).exchangeCount >= this.options.limits.exchangesPerPortMax) {
      request.refuse(
        new BelljarError("PREVIEW_LIMIT", "too many requests are in flight to this port"),
      );
      return undefined;
    }
    const visit = new Visit({
      previews: this,
      request,
      target,
      access,
      traffic,
      rewriteHost: record.rewriteHost,
    });
    this.#open(visit, traffic);
    if (record.state === "running") {
      this.#forward(visit, request);
    } else if (isUninvited(request, record)) {
      visit.fail(new BelljarError("PREVIEW_ASLEEP", "the sandbox sleeps"));
    } else {
      void this.connectAndForward(visit, request);
    }
    return visit;
  }

  #forward(visit: Visit, request: ClientRequest): void {
    const { head } = request;
    const { pool } = visit.portTraffic;
    const upstream = head.isWebSocketUpgrade
      ? undefined
      : pool.take(isReplayable(head.method, head.framing.kind));
    if (upstream === undefined) void this.connectAndForward(visit, request);
    else visit.forward(upstream);
  }

  /** Holds the request until the app is reached; a browser gets the boot page if that takes a while. */
  async connectAndForward(visit: Visit, request: ClientRequest): Promise<void> {
    const { clock, limits, hold } = this.options;
    const isPage = isNavigation(request.head);
    const patience = isPage
      ? clock.after(limits.bootPageAfterMs, () => visit.answer(bootAnswer()))
      : undefined;
    try {
      const stream = await hold.connect(visit.target, request.signal, () => undefined);
      if (request.isEnded) stream.destroy();
      else visit.forward(visit.portTraffic.pool.adopt(stream));
    } catch (error) {
      visit.fail(
        BelljarError.is(error)
          ? error
          : new BelljarError("INTERNAL", "the app could not be reached"),
      );
    } finally {
      patience?.[Symbol.dispose]();
    }
  }

  #open(visit: Visit, traffic: SandboxTraffic<Visit>): void {
    traffic.visits.add(visit);
    visit.portTraffic.exchangeCount += 1;
    this.options.activity.opened(visit.target.id);
    if (visit.access.kind !== "grant") return;
    this.#expiring.add(visit);
    this.options.sweeper.add(this);
  }

  /** A visit is over. Called by the visit, once. */
  close(visit: Visit): void {
    visit.traffic.visits.delete(visit);
    visit.portTraffic.exchangeCount -= 1;
    this.options.activity.closed(visit.target.id);
    if (visit.access.kind === "grant") this.#expiring.delete(visit);
  }

  onDeadline(): void {
    const nowMs = this.options.clock.now();
    for (const visit of this.#expiring) {
      if (visit.access.kind === "grant" && visit.access.grant.expiresAtMs <= nowMs)
        visit.fail(notFound());
    }
    this.deadlineMs = this.options.sweeper.nowMs + EXPIRY_CHECK_MS;
    if (this.#expiring.size === 0) this.options.sweeper.remove(this);
  }

  /** Something about a sandbox changed: what is not allowed any more, or can not go on, is cut now. */
  onChange(id: SandboxId): void {
    const { access, directory } = this.options;
    access.forget(id);
    const traffic = this.#traffic.find(id);
    if (traffic === undefined) return;
    let isAlive = false;
    for (const visit of traffic.visits) {
      const record = directory.find(id, visit.target.port);
      isAlive ||= record !== undefined && hasProcesses(record);
      if (record === undefined) visit.fail(notFound());
      else if (visit.isForwarded && !hasProcesses(record))
        visit.fail(new BelljarError("PREVIEW_APP_CLOSED", "the sandbox has stopped"));
      else void this.#judgeAgain(visit, record);
    }
    if (!isAlive) traffic.dropIdle();
  }

  async #judgeAgain(visit: Visit, record: PreviewRecord): Promise<void> {
    const holds = await this.options.access
      .stillHolds(visit.access, visit.target, record)
      .catch(() => false);
    if (!holds) visit.fail(notFound());
  }

  /** Closes the idle connections to apps. */
  closeIdle(): void {
    this.#pool.close();
  }
}

/** The one answer for what does not exist, what is not exposed and what is not the visitor's. */
export function notFound(): BelljarError {
  return new BelljarError("PREVIEW_NOT_FOUND", "no preview is open to you at this address");
}

function bootAnswer() {
  return pageAnswer(503, bootPage(), { "Retry-After": "1", "X-Belljar-Reason": "waking" });
}

function hasProcesses(record: PreviewRecord): boolean {
  return record.state === "running" || record.state === "frozen";
}

/** Prefetches, and crawlers of public previews, see a sandbox only while it is awake anyway. */
function isUninvited(request: ClientRequest, record: PreviewRecord): boolean {
  const purpose = fieldOf(request.head, "sec-purpose") ?? fieldOf(request.head, "purpose") ?? "";
  if (/prefetch|prerender/i.test(purpose)) return true;
  return record.visibility === "public" && CRAWLER.test(fieldOf(request.head, "user-agent") ?? "");
}
