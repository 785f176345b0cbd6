import { BelljarError } from "@belljar/protocol";
import { MIB } from "../kernel/index.ts";
import type { Clock, SandboxId } from "../kernel/index.ts";
import type { MemoryReader } from "./ports.ts";
import type { MemoryFacts } from "./service.ts";

/** Starts that must have been measured before their cost replaces the configured guess */
const SAMPLES_MIN = 8;
const SAMPLES_MAX = 64;
/** Head room over the largest of the recent samples */
const SAMPLE_FACTOR = 2;
const LEARNED_BYTES_MIN = 4 * MIB;
/** A measurement counts page cache too, so it may raise the expectation only this far above the configured one */
const MEASURED_FACTOR_MAX = 4;

interface Reservation {
  expectedBytes: number;
  remainingBytes: number;
  readonly timer: Disposable;
}

/** What is known of a sandbox before it starts. */
export interface AdmissionRequest {
  /** Its own memory limit: nothing more can be needed */
  readonly limitBytes: number;
  /** What it used when it last went to rest */
  readonly measuredBytes: number | null;
  /** Whether it starts with nothing but its guest, so that what such starts cost is known from others */
  readonly isBare: boolean;
}

/**
 * Admission by memory. A start is let in when what is available, less what was promised to starts that do
 * not use it yet, covers its expected cost above the floor. Deciding and promising is one synchronous
 * step, so any number of parallel starts cannot overcommit.
 */
export class MemoryAdmission {
  readonly #memory: MemoryReader;
  readonly #clock: Clock;
  readonly #settings: AdmissionSettings;
  readonly #reservations = new Map<SandboxId, Reservation>();
  readonly #samples: number[] = [];
  #reservedBytes = 0;

  constructor(options: { memory: MemoryReader; clock: Clock; settings: AdmissionSettings }) {
    this.#memory = options.memory;
    this.#clock = options.clock;
    this.#settings = options.settings;
  }

  facts(): MemoryFacts {
    return { ...this.#memory.read(), reservedBytes: this.#reservedBytes };
  }

  /** Reserves for a start, or throws MEMORY_EXHAUSTED having reserved nothing. */
  admit(id: SandboxId, request: AdmissionRequest): void {
    this.release(id);
    const expectedBytes = this.#expected(request);
    const { totalBytes, availableBytes } = this.#memory.read();
    const floorBytes = (totalBytes * this.#settings.memoryFloorPercent) / 100;
    const leftBytes = availableBytes - this.#reservedBytes - expectedBytes;
    if (leftBytes < floorBytes) {
      throw new BelljarError(
        "MEMORY_EXHAUSTED",
        `not enough memory to start sandbox ${id}: ${mib(availableBytes)} MiB available, ` +
          `${mib(this.#reservedBytes)} MiB promised, ${mib(expectedBytes)} MiB needed above a floor of ${mib(floorBytes)} MiB`,
        { availableBytes, reservedBytes: this.#reservedBytes, expectedBytes, floorBytes },
      );
    }
    const timer = this.#clock.after(this.#settings.memoryReservationMs, () => this.release(id));
    this.#reservations.set(id, { expectedBytes, remainingBytes: expectedBytes, timer });
    this.#reservedBytes += expectedBytes;
  }

  /** What the sandbox uses by now is no longer promised but taken. */
  observe(id: SandboxId, residentBytes: number): void {
    const reservation = this.#reservations.get(id);
    if (reservation === undefined) return;
    const remainingBytes = Math.max(0, reservation.expectedBytes - residentBytes);
    if (remainingBytes === 0) {
      this.release(id);
      return;
    }
    this.#reservedBytes += remainingBytes - reservation.remainingBytes;
    reservation.remainingBytes = remainingBytes;
  }

  /** Learns what a bare start costs, for this reservation and those to come. */
  learn(id: SandboxId, residentBytes: number): void {
    this.#samples.push(residentBytes);
    if (this.#samples.length > SAMPLES_MAX) this.#samples.shift();
    const reservation = this.#reservations.get(id);
    if (reservation === undefined) return;
    reservation.expectedBytes = Math.min(
      reservation.expectedBytes,
      this.#typicalBytes() ?? Infinity,
    );
    this.observe(id, residentBytes);
  }

  /** Gives back what is still promised. */
  release(id: SandboxId): void {
    const reservation = this.#reservations.get(id);
    if (reservation === undefined) return;
    reservation.timer[Symbol.dispose]();
    this.#reservations.delete(id);
    this.#reservedBytes -= reservation.remainingBytes;
  }

  #expected(request: AdmissionRequest): number {
    const configured = this.#settings.memoryExpectedBytes;
    const measured =
      request.measuredBytes === null
        ? undefined
        : Math.min(request.measuredBytes, configured * MEASURED_FACTOR_MAX);
    const typical = request.isBare ? this.#typicalBytes() : undefined;
    return Math.min(request.limitBytes, measured ?? typical ?? configured);
  }

  #typicalBytes(): number | undefined {
    if (this.#samples.length < SAMPLES_MIN) return undefined;
    return Math.max(LEARNED_BYTES_MIN, SAMPLE_FACTOR * Math.max(...this.#samples));
  }
}

interface AdmissionSettings {
  readonly memoryFloorPercent: number;
  readonly memoryExpectedBytes: number;
  readonly memoryReservationMs: number;
}

function mib(bytes: number): number {
  return Math.round(bytes / MIB);
}
