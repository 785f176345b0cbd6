import { constants } from "node:os";
import { BelljarError } from "@belljar/protocol";
import { callGuest, FrameChannel } from "./channel.ts";
import { Fields, FieldWriter, OP, SAY, TAG } from "./frames.ts";
import type { ExecExit, ExecReason, GuestConnect, GuestProcess, ProcessTarget } from "./types.ts";

const FLAG_TERMINAL = 2;
const FLAG_KEEP = 4;
const PROCESS_COUNT_MAX = 4096;
const EXIT_BYTES = 28;
const REASONS: readonly ExecReason[] = ["exited", "signaled", "timeout", "cancelled"];
const SIGNAL_NAMES = new Map(
  Object.entries(constants.signals).map(([name, number]) => [number, name]),
);
const SIGNAL_NUMBERS: ReadonlyMap<string, number> = new Map(Object.entries(constants.signals));
const SIGNAL_MAX = 64;

/** A signal's number; BAD_REQUEST for what is not one. */
export function signalNumber(signal: string | number): number {
  const number = typeof signal === "number" ? signal : SIGNAL_NUMBERS.get(signal);
  if (number === undefined || !Number.isInteger(number) || number < 1 || number > SIGNAL_MAX)
    throw new BelljarError("BAD_REQUEST", `no signal ${signal}`, { signal });
  return number;
}

/** The EXIT frame's payload, checked. */
export function decodeExit(payload: Uint8Array): ExecExit {
  const reason = REASONS[payload[0] ?? -1];
  if (payload.byteLength !== EXIT_BYTES || reason === undefined)
    throw new BelljarError("GUEST_PROTOCOL", "the guest sent a malformed EXIT frame");
  const view = new DataView(payload.buffer, payload.byteOffset, EXIT_BYTES);
  const signal = view.getUint32(8, true);
  return {
    exitCode: signal === 0 ? view.getInt32(4, true) : null,
    signal: signal === 0 ? null : (SIGNAL_NAMES.get(signal) ?? `SIG${signal}`),
    reason,
    maxRssBytes: Number(view.getBigUint64(12, true)),
    cpuTimeMs: Number(view.getBigUint64(20, true)) / 1000,
  };
}

/** Fields that name a command started earlier. */
export function targetFields(target: ProcessTarget): FieldWriter {
  const fields = new FieldWriter();
  return "pid" in target ? fields.u32(TAG.pid, target.pid) : fields.put(TAG.tag, target.tag);
}

export const targetText = (target: ProcessTarget): string =>
  "pid" in target ? `pid ${target.pid}` : `tag ${target.tag}`;

function decodeProcess(payload: Uint8Array): GuestProcess {
  const fields = new Fields(payload);
  const flags = fields.u32(TAG.flags);
  return {
    pid: fields.u32(TAG.pid),
    tag: fields.textOrNull(TAG.tag),
    command: fields.texts(TAG.arg),
    cwd: fields.textOrNull(TAG.cwd) ?? "",
    startedAtMs: fields.u64(TAG.startedAtMs),
    terminal: (flags & FLAG_TERMINAL) !== 0,
    keep: (flags & FLAG_KEEP) !== 0,
    running: fields.u32(TAG.state) === 0,
    exit: fields.has(TAG.exit) ? decodeExit(fields.bytes(TAG.exit)) : null,
  };
}

/** Commands that exec started: the running and the kept, newest first. */
export async function listProcesses(
  connect: GuestConnect,
  signal?: AbortSignal,
): Promise<GuestProcess[]> {
  const request = new FieldWriter().frame(OP.processes);
  const channel = await FrameChannel.open(connect, {
    request,
    context: "process",
    subject: "",
    signal,
  });
  const processes: GuestProcess[] = [];
  try {
    for (;;) {
      const frame = await channel.next();
      if (frame.type === SAY.end) return processes;
      if (frame.type !== SAY.entry || processes.length >= PROCESS_COUNT_MAX)
        throw new BelljarError(
          "GUEST_PROTOCOL",
          `the guest listed processes with frame ${frame.type}`,
        );
      processes.push(decodeProcess(frame.payload));
    }
  } finally {
    channel.close();
  }
}

/** Sends a signal to a command's process group. PROCESS_NOT_FOUND when it has ended. */
export async function signalProcess(
  connect: GuestConnect,
  target: ProcessTarget,
  signal: string | number,
  abort?: AbortSignal,
): Promise<void> {
  const request = targetFields(target).u32(TAG.signal, signalNumber(signal)).frame(OP.signal);
  await callGuest(connect, {
    request,
    context: "process",
    subject: targetText(target),
    signal: abort,
  });
}

/** Frees the kept output and exit of a finished command. PROCESS_RUNNING while it runs. */
export async function forgetProcess(
  connect: GuestConnect,
  target: ProcessTarget,
  signal?: AbortSignal,
): Promise<void> {
  const request = targetFields(target).frame(OP.forget);
  await callGuest(connect, { request, context: "process", subject: targetText(target), signal });
}
