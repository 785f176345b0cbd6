import { describe, expect, test } from "vitest";
import { hostPath, parseSandboxId } from "../../kernel/index.ts";
import type { SandboxSpec } from "../driver.ts";
import { SLOT_COUNT_MAX, rangeOfSlot } from "./ids.ts";
import type { PlanMachine } from "./plan.ts";
import { planOf } from "./plan.ts";
import { decodeRecords, encodeRequest } from "./wire.ts";

const MIB = 1024 * 1024;
const spec: SandboxSpec = {
  id:
    parseSandboxId("abcdefghij0123456789") ??
    (() => {
      throw new Error("id");
    })(),
  slot: 2,
  template: {
    name: "host",
    layers: [hostPath("/layers/top"), hostPath("/layers/bottom")],
    binds: [{ source: hostPath("/usr"), target: "/usr", readOnly: true }],
  },
  hostname: "box",
  limits: {
    memoryBytes: 64 * MIB,
    cpuCount: 1,
    processCount: 10,
    openFilesMax: 4096,
    tmpBytes: MIB,
    shmBytes: MIB,
  },
  level: "standard",
  onUnsupported: "refuse",
};
const machine: PlanMachine = {
  isPrivileged: true,
  uid: 0,
  gid: 0,
  canIdmap: true,
  guest: hostPath("/opt/belljar/guest"),
  cgroups: {
    mode: "v2",
    roots: [
      {
        path: hostPath("/sys/fs/cgroup/jar"),
        version: 2,
        controllers: ["memory", "pids", "freezer"],
      },
    ],
  },
  openFilesMax: 1024,
  seccomp: new Uint8Array(8),
};
const rootless: PlanMachine = {
  ...machine,
  isPrivileged: false,
  uid: 1000,
  gid: 1001,
  canIdmap: false,
};

describe("planOf()", () => {
  test("is this list, step by step", () => {
    expect(planOf(spec, machine)).toMatchSnapshot();
  });

  test("without root it shows the host's device nodes, maps one id and id-maps nothing", () => {
    const plan = planOf(spec, rootless);
    expect(plan).toContainEqual(["userNamespace", 1000, 1001, 1]);
    expect(plan).toContainEqual(["node", 1, 3, 0o666, 0, 0, "/dev/null", "/dev/null"]);
    expect(plan).toContainEqual(["bind", 2 | 4, "/usr", "/usr"]);
    expect(plan).toContainEqual(["overlay", 1]);
  });

  test("never asks for more open files than the warden may give", () => {
    expect(planOf(spec, machine)).toContainEqual(["resourceLimit", 7, 1024, 1024]);
  });

  test("keeps no capability that reaches past the sandbox", () => {
    const mask = BigInt(
      Number(planOf(spec, machine).find(([name]) => name === "capabilities")?.[1]),
    );
    const reaching = {
      SYS_ADMIN: 21,
      NET_ADMIN: 12,
      NET_RAW: 13,
      SYS_PTRACE: 19,
      SYS_MODULE: 16,
      SYS_RAWIO: 17,
      MKNOD: 27,
      SYS_RESOURCE: 24,
      BPF: 39,
      DAC_READ_SEARCH: 2,
    };
    for (const [name, bit] of Object.entries(reaching))
      expect((mask >> BigInt(bit)) & 1n, name).toBe(0n);
  });
});

describe("rangeOfSlot()", () => {
  test("gives ranges that do not overlap and stay below the kernel's last id", () => {
    expect(rangeOfSlot(1).base).toBeGreaterThanOrEqual(rangeOfSlot(0).base + rangeOfSlot(0).count);
    const last = rangeOfSlot(SLOT_COUNT_MAX - 1);
    expect(last.base + last.count).toBeLessThan(0xffff_fffe);
    expect(() => rangeOfSlot(SLOT_COUNT_MAX)).toThrow();
    expect(() => rangeOfSlot(-1)).toThrow();
  });
});

describe("encodeRequest()", () => {
  test("writes what decodeRecords() reads", () => {
    const frame = encodeRequest("create", 9, planOf(spec, machine));
    expect(frame.readUInt32LE(0)).toBe(frame.length - 12);
    expect(frame.readUInt32LE(4)).toBe(9);
    const records = decodeRecords(frame.subarray(12));
    expect(records).toHaveLength(planOf(spec, machine).length);
    expect(records[0]?.value.toString()).toBe("abcdefghij0123456789\0");
  });

  test("refuses a NUL in text, a number out of range and a wrong count of values", () => {
    for (const record of [
      ["hostname", "a\0b"],
      ["overlay", -1],
      ["overlay", 2 ** 32],
      ["overlay", 1.5],
      ["overlay"],
      ["pivot", 1],
      ["hostname", 5],
    ] as const) {
      expect(() => encodeRequest("create", 1, [record]), JSON.stringify(record)).toThrow(
        /cannot hold/,
      );
    }
  });

  test("an answer that ends inside a record is refused", () => {
    expect(() => decodeRecords(Buffer.from([1, 0, 5, 0, 1]))).toThrow(/ends inside/);
    expect(() => decodeRecords(Buffer.from([1, 0]))).toThrow(/ends inside/);
    expect(decodeRecords(Buffer.alloc(0))).toEqual([]);
  });
});
