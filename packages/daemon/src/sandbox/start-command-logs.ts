import { BelljarError } from "@belljar/protocol";
import type { Clock } from "../kernel/index.ts";
import type { SandboxGuest, StartCommandOutput } from "./service.ts";
import { START_COMMAND_TAG } from "./start-command.ts";

/** Silence after which what a running command has written so far counts as read */
const SETTLED_MS = 100;

/** The kept output of the start command, and with `follow` what comes after it. */
export async function* readStartCommand(
  guest: SandboxGuest,
  options: { follow?: boolean; signal?: AbortSignal; clock: Clock },
): AsyncGenerator<StartCommandOutput> {
  const session = await attach(guest, options.signal);
  if (session === undefined) return;
  const chunks = session.output[Symbol.asyncIterator]();
  const close = () => session.close();
  options.signal?.addEventListener("abort", close, { once: true });
  try {
    for (;;) {
      const next = chunks.next();
      const result = options.follow === true ? await next : await orSilence(next, options.clock);
      if (result === undefined || result.done === true) return;
      yield result.value;
    }
  } finally {
    options.signal?.removeEventListener("abort", close);
    session.close();
  }
}

async function attach(guest: SandboxGuest, signal: AbortSignal | undefined) {
  try {
    return await guest.attach({ tag: START_COMMAND_TAG }, signal);
  } catch (error) {
    if (BelljarError.is(error, "PROCESS_NOT_FOUND")) return undefined;
    throw error;
  }
}

async function orSilence<Value>(next: Promise<Value>, clock: Clock): Promise<Value | undefined> {
  const { promise: silence, resolve } = Promise.withResolvers<undefined>();
  using _timer = clock.after(SETTLED_MS, () => resolve(undefined));
  return await Promise.race([next, silence]);
}
