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
  const { lifeMs, onLifeEnd, frozenMs } = row.timeouts;
  const isAsked = row.state === "frozen" && onLifeEnd === "freeze";
  if (!isAsked && isOver(row.startedAtMs, lifeMs, nowMs))
    return { action: onLifeEnd, reason: "life-end" };
  if (row.state === "running") return dueIdle(record, nowMs);
  return isOver(row.frozenAtMs, frozenMs, nowMs)
    ? { action: "stop", reason: "frozen-for-long" }
    : undefined;
}

function dueIdle(record: SandboxRecord, nowMs: number): DueRest | undefined {
  const { timeouts, keepAliveUntilMs } = record.row;
  if (record.workCount > 0 || (keepAliveUntilMs ?? 0) > nowMs) return undefined;
  const isIdle = isOver(record.lastActiveAtMs, timeouts.idleMs, nowMs);
  return isIdle ? { action: timeouts.onIdle, reason: "idle" } : undefined;
}

function isOver(sinceMs: number | null, limitMs: number | null, nowMs: number): boolean {
  return sinceMs !== null && limitMs !== null && nowMs - sinceMs >= limitMs;
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
