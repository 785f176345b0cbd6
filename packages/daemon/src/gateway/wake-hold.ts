import type { Duplex } from "node:stream";
import { BelljarError } from "@belljar/protocol";
import type { Clock, SandboxId } from "../kernel/index.ts";
import type { Target } from "./access.ts";
import type { GatewayLimits } from "./limits.ts";
import type { PortDialer, PreviewDirectory, SandboxWaker } from "./ports.ts";

/** `ms` between attempts to connect: the first, and the longest. */
const RETRY_FIRST_MS = 5;
const RETRY_LONGEST_MS = 200;
const REMEMBERED_WAKES_MAX = 4_096;

/** How far a wake has come. */
export type WakeStep = "waking" | "connecting";

export interface HoldOptions {
  readonly directory: PreviewDirectory;
  readonly waker: SandboxWaker;
  readonly dialer: PortDialer;
  readonly clock: Clock;
  readonly limits: GatewayLimits;
}

interface Until {
  /** Monotonic `ms` */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
}

/**
 * Holds visitors while a sandbox wakes and its app begins to listen. However many visitors, a
 * sandbox is woken once, and all of them learn how that ended. A visitor who leaves does not stop it.
 */
export class WakeHold {
  readonly #options: HoldOptions;
  readonly #wakes = new Map<SandboxId, Promise<void>>();
  readonly #heldCounts = new Map<SandboxId, number>();
  readonly #wokenAtMs = new Map<SandboxId, number>();

  constructor(options: HoldOptions) {
    this.#options = options;
  }

  /**
   * A connection to the app, after a wake if need be.
   *
   * @throws PREVIEW_LIMIT, PREVIEW_WAKE_FAILED, PREVIEW_WAKE_TIMEOUT, PREVIEW_UNREACHABLE, CANCELLED
   */
  async connect(
    target: Target,
    signal: AbortSignal,
    onStep: (step: WakeStep) => void,
  ): Promise<Duplex> {
    const isAwake = this.#stateOf(target) === "running";
    const deadlineMs = this.#options.clock.monotonic() + this.#patienceMs(target.id, isAwake);
    if (isAwake) {
      onStep("connecting");
      const stream = await this.#tryDial(target, { deadlineMs, signal });
      if (!(stream instanceof Error)) return stream;
    }
    this.#hold(target.id);
    try {
      return await this.#connectHeld(target, { deadlineMs, signal }, onStep);
    } finally {
      this.#unhold(target.id);
    }
  }

  async #connectHeld(
    target: Target,
    until: Until,
    onStep: (step: WakeStep) => void,
  ): Promise<Duplex> {
    const { clock } = this.#options;
    let pauseMs = RETRY_FIRST_MS;
    for (;;) {
      if (this.#stateOf(target) !== "running") {
        onStep("waking");
        await this.#bounded(this.#wake(target.id), until);
      }
      onStep("connecting");
      const stream = await this.#tryDial(target, until);
      if (!(stream instanceof Error)) return stream;
      if (clock.monotonic() + pauseMs >= until.deadlineMs) {
        const message = `nothing listens on port ${target.port}`;
        throw new BelljarError("PREVIEW_UNREACHABLE", message, undefined, { cause: stream });
      }
      await this.#pause(pauseMs, until.signal);
      pauseMs = Math.min(pauseMs * 2, RETRY_LONGEST_MS);
    }
  }

  /** Visitors of a sandbox that runs are not held: only what has to wait counts against the limit. */
  #hold(id: SandboxId): void {
    const held = this.#heldCounts.get(id) ?? 0;
    if (held >= this.#options.limits.heldPerSandboxMax) {
      throw new BelljarError("PREVIEW_LIMIT", `${held} requests already wait for this sandbox`);
    }
    this.#heldCounts.set(id, held + 1);
  }

  #unhold(id: SandboxId): void {
    const left = (this.#heldCounts.get(id) ?? 1) - 1;
    if (left === 0) this.#heldCounts.delete(id);
    else this.#heldCounts.set(id, left);
  }

  #stateOf(target: Target): string {
    const record = this.#options.directory.find(target.id, target.port);
    if (record === undefined) throw new BelljarError("PREVIEW_NOT_FOUND", "the preview is gone");
    return record.state;
  }

  /** A stream, or why there is none. */
  async #tryDial(target: Target, until: Until): Promise<Duplex | Error> {
    try {
      return await this.#dial(target, until);
    } catch (error) {
      if (until.signal.aborted) throw cancelled();
      return error instanceof Error ? error : new BelljarError("INTERNAL", "the dialler failed");
    }
  }

  /** A sandbox that sleeps, or has just been woken, is given the time that a wake is given; one that runs is not. */
  #patienceMs(id: SandboxId, isAwake: boolean): number {
    const { holdMs, connectGraceMs } = this.#options.limits;
    const wokenAtMs = this.#wokenAtMs.get(id);
    const isJustWoken =
      wokenAtMs !== undefined && this.#options.clock.monotonic() - wokenAtMs < holdMs;
    return isAwake && !isJustWoken ? Math.min(connectGraceMs, holdMs) : holdMs;
  }

  #wake(id: SandboxId): Promise<void> {
    const running = this.#wakes.get(id);
    if (running !== undefined) return running;
    const wake = this.#wakeOnce(id).finally(() => this.#wakes.delete(id));
    this.#wakes.set(id, wake);
    // Visitors that gave up leave the promise alone; its failure is theirs to hear, not the process's.
    wake.catch(() => undefined);
    return wake;
  }

  async #wakeOnce(id: SandboxId): Promise<void> {
    try {
      await this.#options.waker.wake(id, { reason: "visit" });
    } catch (error) {
      const reason = BelljarError.is(error) ? error.code : "INTERNAL";
      // The cause may name paths or sizes of the machine: visitors learn its code alone.
      throw new BelljarError(
        "PREVIEW_WAKE_FAILED",
        "the sandbox could not be started",
        { reason },
        { cause: error },
      );
    }
    if (this.#wokenAtMs.size >= REMEMBERED_WAKES_MAX) this.#wokenAtMs.clear();
    this.#wokenAtMs.set(id, this.#options.clock.monotonic());
  }

  /** The signal given to the dialler ends with the dialling: a visitor who leaves later must not close a kept connection. */
  async #dial(target: Target, until: Until): Promise<Duplex> {
    if (until.signal.aborted) throw cancelled();
    const dialling = new AbortController();
    const stop = () => dialling.abort();
    const leftMs = Math.max(1, until.deadlineMs - this.#options.clock.monotonic());
    using timer = this.#options.clock.after(leftMs, stop);
    void timer;
    until.signal.addEventListener("abort", stop, { once: true });
    try {
      const stream = await this.#options.dialer.dial(target.id, target.port, dialling.signal);
      if (!until.signal.aborted) return stream;
      stream.destroy();
      throw cancelled();
    } finally {
      until.signal.removeEventListener("abort", stop);
    }
  }

  /** Waits for `work` until the deadline or until the visitor leaves; the work itself goes on. */
  async #bounded(work: Promise<void>, { deadlineMs, signal }: Until): Promise<void> {
    const { clock } = this.#options;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const leave = () => reject(cancelled());
    if (signal.aborted) throw cancelled();
    signal.addEventListener("abort", leave, { once: true });
    using timer = clock.after(Math.max(0, deadlineMs - clock.monotonic()), () =>
      reject(new BelljarError("PREVIEW_WAKE_TIMEOUT", "the sandbox did not wake in time")),
    );
    void timer;
    work.then(resolve, reject);
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  async #pause(durationMs: number, signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const done = () => resolve();
    signal.addEventListener("abort", done, { once: true });
    using timer = this.#options.clock.after(durationMs, done);
    void timer;
    await promise;
    signal.removeEventListener("abort", done);
    if (signal.aborted) throw cancelled();
  }
}

function cancelled(): BelljarError {
  return new BelljarError("CANCELLED", "the visitor left");
}
