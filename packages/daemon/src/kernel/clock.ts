/** Time, as everything in the daemon gets it: injected, so tests decide what time it is. */
export interface Clock {
  /** Wall clock, milliseconds since the epoch */
  now(): number;
  /** Monotonic milliseconds, for durations */
  monotonic(): number;
  /** Calls `run` once after `delayMs`; never keeps the process alive */
  after(delayMs: number, run: () => void): Disposable;
  /** Calls `run` every `intervalMs`; never keeps the process alive */
  every(intervalMs: number, run: () => void): Disposable;
}

/** The machine's clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    timer.unref();
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
  every(intervalMs, run) {
    const timer = setInterval(run, intervalMs);
    timer.unref();
    return { [Symbol.dispose]: () => clearInterval(timer) };
  },
};
