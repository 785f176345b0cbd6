import type { EndAction } from "@belljar/protocol";
import type { Clock } from "../kernel/index.ts";
import type { SandboxRecord } from "./registry.ts";

/** What is due for one sandbox. */
export interface DueRest {
  readonly action: EndAction;
  readonly reason: "idle" | "frozen-for-long" | "life-end";
}

/**
 * What the clock asks of a sandbox now, undefined for nothing. Maximum life counts from the last start
 * and spares nobody; idleness spares what runs a command or task, and whom `keepAlive` was promised to.
 */
export function dueRest(record: SandboxRecord, nowMs: number): DueRest | undefined {
  const { row } = record;
  if (row.pending !== null || (row.state !== "running" && row.state !== "frozen")) return undefined;
  const { timeouts } = row;
  if (timeouts.lifeMs !== null && row.startedAtMs !== null && nowMs - row.startedAtMs >= timeouts.lifeMs) {
    const isDone = row.state === "frozen" && timeouts.onLifeEnd === "freeze";
    if (!isDone) return { action: timeouts.onLifeEnd, reason: "life-end" };
  }
  if (row.state === "frozen") {
    const isDue = timeouts.frozenMs !== null && row.frozenAtMs !== null && nowMs - row.frozenAtMs >= timeouts.frozenMs;
    return isDue ? { action: "stop", reason: "frozen-for-long" } : undefined;
  }
  const isInUse = record.workCount > 0 || (row.keepAliveUntilMs ?? 0) > nowMs;
  if (isInUse || timeouts.idleMs === null) return undefined;
  return nowMs - record.lastActiveAtMs >= timeouts.idleMs
    ? { action: timeouts.onIdle, reason: "idle" }
    : undefined;
}

/** Looks at every sandbox at a fixed interval, and hands over those whose time has come. */
export class Reaper implements Disposable {
  readonly #timer: Disposable;

  constructor(options: {
    clock: Clock;
    intervalMs: number;
    records: () => Iterable<SandboxRecord>;
    rest: (record: SandboxRecord) => void;
    /** Called once an interval with everyone used since the last time */
    saveActivity: (records: SandboxRecord[]) => void;
  }) {
    this.#timer = options.clock.every(options.intervalMs, () => {
      const nowMs = options.clock.now();
      const used: SandboxRecord[] = [];
      const due: SandboxRecord[] = [];
      for (const record of options.records()) {
        if (record.isActivityUnsaved) used.push(record);
        if (dueRest(record, nowMs) !== undefined) due.push(record);
      }
      if (used.length > 0) options.saveActivity(used);
      for (const record of due) options.rest(record);
    });
  }

  [Symbol.dispose](): void {
    this.#timer[Symbol.dispose]();
  }
}
