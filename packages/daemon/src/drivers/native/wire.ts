/**
 * The warden's wire format: a header of three u32 (payload length, request id, operation), then
 * records of u16 tag, u16 length and a value. Little endian. `native/warden/PROTOCOL.md` has the whole of it.
 */
import { BelljarError } from "@belljar/protocol";

export const HEADER_BYTES = 12;
export const FRAME_BYTES_MAX = 256 * 1024;
/** Bytes of an answer: a list of every sandbox is the longest */
export const ANSWER_BYTES_MAX = 1024 * 1024;

export const OPS = {
  hello: 1,
  create: 2,
  kill: 3,
  freeze: 4,
  thaw: 5,
  list: 6,
  usage: 7,
  dial: 8,
  check: 9,
  poolMount: 20,
  volumeCreate: 21,
  volumeRemove: 22,
  volumeUsage: 23,
  volumeList: 24,
  exit: 100,
} as const;
export type Op = keyof typeof OPS;

/** Tags with the shape of their values: u = u32, q = u64, s = text and NUL, b = bytes to the end. */
export const RECORDS = {
  id: [1, "s"],
  guest: [2, "s"],
  argument: [3, "s"],
  environment: [4, "s"],
  userNamespace: [5, "uuu"],
  cgroup: [6, "uu"],
  cgroupFile: [7, "uuss"],
  layer: [20, "us"],
  overlay: [21, "u"],
  bind: [22, "uss"],
  tmpfs: [23, "qq"],
  proc: [24, "s"],
  devpts: [25, "uus"],
  node: [26, "uuuuuss"],
  directory: [27, "uuus"],
  symlink: [28, "ss"],
  mask: [29, "s"],
  scratch: [30, "uuuuss"],
  hostname: [40, "s"],
  loopback: [41, ""],
  sysctl: [42, "ss"],
  resourceLimit: [43, "uqq"],
  pivot: [60, ""],
  enter: [61, ""],
  capabilities: [62, "q"],
  noNewPrivileges: [63, ""],
  seccomp: [65, "ub"],
  port: [80, "uu"],
  volume: [81, "uuqq"],
  pool: [82, "u"],
  events: [83, ""],
} as const;
export type RecordName = keyof typeof RECORDS;

/** Tags of answers. */
export const ANSWERS = {
  id: 1,
  error: 100,
  facts: 101,
  root: 102,
  sandbox: 103,
  file: 104,
  status: 105,
  numbers: 107,
} as const;

export type RecordValue = number | string | Uint8Array;
/** One step of a plan: its name and its values in the order of its shape. */
export type PlanRecord = readonly [name: RecordName, ...values: RecordValue[]];

/** A record of an answer. */
export interface AnswerRecord {
  readonly tag: number;
  readonly value: Buffer;
}

/** A framed request. */
export function encodeRequest(op: Op, requestId: number, records: readonly PlanRecord[]): Buffer {
  const payload = Buffer.concat(records.map(encodeRecord));
  if (payload.length > FRAME_BYTES_MAX) {
    throw new BelljarError("WARDEN_PROTOCOL", `a request of ${payload.length} bytes is too long`);
  }
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(payload.length, 0);
  header.writeUInt32LE(requestId, 4);
  header.writeUInt32LE(OPS[op], 8);
  return Buffer.concat([header, payload]);
}

function encodeRecord([name, ...values]: PlanRecord): Buffer {
  const [tag, shape] = RECORDS[name];
  if (shape.length !== values.length) throw unencodable(name, values);
  const parts = values.map((value, index) => encodeValue(shape.charAt(index), value, name));
  const body = Buffer.concat(parts);
  if (body.length > 0xffff) throw unencodable(name, values);
  const head = Buffer.alloc(4);
  head.writeUInt16LE(tag, 0);
  head.writeUInt16LE(body.length, 2);
  return Buffer.concat([head, body]);
}

function encodeValue(kind: string, value: RecordValue, name: RecordName): Uint8Array {
  if (kind === "s" && typeof value === "string" && !value.includes("\0")) {
    return Buffer.from(`${value}\0`);
  }
  if (kind === "b" && value instanceof Uint8Array) return value;
  const isNumber = typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
  if (isNumber && kind === "u" && value <= 0xffff_ffff) {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return bytes;
  }
  if (isNumber && kind === "q") {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return bytes;
  }
  throw unencodable(name, value);
}

function unencodable(name: RecordName, value: unknown): BelljarError {
  const shown = typeof value === "string" ? value.slice(0, 200) : typeof value;
  return new BelljarError("WARDEN_PROTOCOL", `the plan's ${name} cannot hold ${shown}`);
}

/** The records of an answer's payload. */
export function decodeRecords(payload: Buffer): AnswerRecord[] {
  const records: AnswerRecord[] = [];
  for (let at = 0; at < payload.length;) {
    const end = at + 4 + (at + 4 <= payload.length ? payload.readUInt16LE(at + 2) : 0);
    if (at + 4 > payload.length || end > payload.length) {
      throw new BelljarError("WARDEN_PROTOCOL", "the warden's answer ends inside a record");
    }
    records.push({ tag: payload.readUInt16LE(at), value: payload.subarray(at + 4, end) });
    at = end;
  }
  return records;
}

/** Text up to its NUL, at `offset` of a value. */
export function textAt(value: Buffer, offset = 0): string {
  const end = value.indexOf(0, offset);
  return value.toString("utf8", offset, end < 0 ? value.length : end);
}
