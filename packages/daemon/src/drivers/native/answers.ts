/** Reads what the warden answers. */
import { BelljarError } from "@belljar/protocol";
import type { SandboxId } from "../../kernel/index.ts";
import { parseSandboxId } from "../../kernel/index.ts";
import type { DriverSandbox, ResourceUsage, SandboxExit, VolumeUsage } from "../driver.ts";
import { usageOf } from "./cgroup.ts";
import type { AnswerRecord } from "./wire.ts";
import { ANSWERS, textAt } from "./wire.ts";

const FLAG = { frozen: 1, adopted: 2, creating: 4 } as const;
const SANDBOX_BYTES = 8 + 4 + 4 + 20 + 1;
const SIGNALLED = 0x100;
/** Limit that stands for none */
const NO_LIMIT = 2 ** 63;

function idAt(value: Buffer, offset: number): SandboxId {
  const id = parseSandboxId(textAt(value, offset));
  if (id === undefined) throw new BelljarError("WARDEN_PROTOCOL", "the warden named no sandbox");
  return id;
}

function find(records: readonly AnswerRecord[], tag: number, bytesMin: number): Buffer {
  const value = records.find((record) => record.tag === tag)?.value;
  if (value !== undefined && value.length >= bytesMin) return value;
  throw new BelljarError("WARDEN_PROTOCOL", `the warden's answer lacks record ${tag}`);
}

/** Sandboxes of a LIST answer; one whose setup has not ended is not among them. */
export function readSandboxes(records: readonly AnswerRecord[]): DriverSandbox[] {
  const sandboxes: DriverSandbox[] = [];
  for (const { tag, value } of records) {
    if (tag !== ANSWERS.sandbox || value.length < SANDBOX_BYTES) continue;
    const flags = value.readUInt32LE(12);
    if ((flags & FLAG.creating) !== 0) continue;
    sandboxes.push({
      id: idAt(value, 16),
      state: (flags & FLAG.frozen) === 0 ? "running" : "frozen",
      startedAtMs: Number(value.readBigInt64LE(0)),
    });
  }
  return sandboxes;
}

/** Usage from the cgroup files among the records. */
export function usageFrom(records: readonly AnswerRecord[]): ResourceUsage {
  const files = new Map<string, string>();
  for (const { tag, value } of records) {
    if (tag !== ANSWERS.file) continue;
    const name = textAt(value);
    // Two hierarchies may have a file of one name (`cpu.stat`) with different lines.
    files.set(name, `${files.get(name) ?? ""}${textAt(value, name.length + 1)}`);
  }
  return usageOf(files);
}

/** The exit that an event tells. */
export function readExit(records: readonly AnswerRecord[]): SandboxExit {
  const status = find(records, ANSWERS.status, 8);
  const isKnown = status.readUInt32LE(4) === 1;
  const code = status.readUInt32LE(0);
  const usage = usageFrom(records);
  return {
    id: idAt(find(records, ANSWERS.id, 1), 0),
    exitCode: isKnown && code < SIGNALLED ? code : null,
    signal: isKnown && code >= SIGNALLED ? code - SIGNALLED : null,
    usage,
    isOutOfMemory: usage.oomKills > 0,
  };
}

export function readVolumeUsage(records: readonly AnswerRecord[]): VolumeUsage {
  const numbers = find(records, ANSWERS.numbers, 16);
  const limit = Number(numbers.readBigUInt64LE(8));
  const usedBytes = Number(numbers.readBigUInt64LE(0));
  return limit === 0 || limit >= NO_LIMIT ? { usedBytes } : { usedBytes, limitBytes: limit };
}
