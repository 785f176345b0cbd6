const POLL_MS = 50;

/** Asks until the answer is not undefined; undefined when `timeoutMs` passed or the signal aborted. */
export async function poll<Answer>(
  ask: () => Promise<Answer | undefined> | Answer | undefined,
  options: { timeoutMs: number; signal?: AbortSignal },
): Promise<Answer | undefined> {
  const endMs = performance.now() + options.timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() >= endMs || options.signal?.aborted === true) return undefined;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
