/**
 * Resolves with the first signal that asks the daemon to stop. From then on the process has `exitWithinMs`
 * to end by itself; a second signal is from someone who does not want to wait.
 */
export function stopSignal(exitWithinMs: number): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>();
  let isStopping = false;
  const stop = (signal: NodeJS.Signals) => {
    if (isStopping) process.exit(1);
    isStopping = true;
    setTimeout(() => process.exit(1), exitWithinMs).unref();
    resolve(signal);
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, stop);
  return promise;
}
