import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Machine, canSandbox } from "../testing/machine.ts";
import type { Instruction } from "./seccomp.ts";
import { compileSeccomp, seccompProgram } from "./seccomp.ts";
import type { Architecture } from "./seccomp-policy.ts";
import { ARCHITECTURES, CONDITIONAL, DENIED, ERRNO } from "./seccomp-policy.ts";

const ARCH = { x64: 0xc000_003e, arm64: 0xc000_00b7 };
const ALLOW = "allow";
const KILL = "kill";

interface Call {
  readonly number: number;
  readonly arch: number;
  readonly args?: readonly number[];
}

/** What the kernel would do: a small machine for the few opcodes that the compiler uses. */
function verdict(
  program: readonly Instruction[],
  { number, arch, args = [] }: Call,
): string | number {
  const words = new Map([
    [0, number],
    [4, arch],
    ...args.map((value, index) => [16 + 8 * index, value >>> 0] as const),
  ]);
  let accumulator = 0;
  for (let at = 0; at < program.length; at += 1) {
    const { code, operand, jumpTrue, jumpFalse } = program[at] as Instruction;
    if (code === 0x20) accumulator = words.get(operand) ?? 0;
    else if (code === 0x15) at += accumulator === operand ? jumpTrue : jumpFalse;
    else if (code === 0x35) at += accumulator >= operand ? jumpTrue : jumpFalse;
    else if (code === 0x45) at += (accumulator & operand) !== 0 ? jumpTrue : jumpFalse;
    else if (code === 0x06) {
      if (operand === 0x7fff_0000) return ALLOW;
      return operand === 0x8000_0000 ? KILL : operand & 0xffff;
    } else throw new Error(`opcode ${code}`);
  }
  throw new Error("the program runs off its end");
}

describe.for(ARCHITECTURES.map((name) => ({ name })))(
  "the filter for $name",
  ({ name }: { name: Architecture }) => {
    const program = seccompProgram(name);
    const arch = ARCH[name];
    const column = name === "x64" ? 0 : 1;
    const ask = (number: number, ...args: number[]) => verdict(program, { number, arch, args });
    const numberOf = (call: string) => {
      const rule = CONDITIONAL.find((entry) => entry.call === call);
      return rule?.numbers[column] ?? -1;
    };

    test("refuses every call of the list with its errno", () => {
      for (const { calls, errno } of DENIED) {
        for (const [call, numbers] of Object.entries(calls)) {
          const number = numbers[column];
          expect(number === null ? ERRNO[errno] : ask(number), call).toBe(ERRNO[errno]);
        }
      }
    });

    test("allows every number that no rule names", () => {
      const named = new Set(
        [
          ...DENIED.flatMap(({ calls }) => Object.values(calls)),
          ...CONDITIONAL.map(({ numbers }) => numbers),
        ].map((numbers) => numbers[column]),
      );
      const unnamed = Array.from({ length: 600 }, (_, number) => number).filter(
        (number) => !named.has(number),
      );
      for (const number of unnamed) {
        expect(ask(number, 0x7fff_ffff, 0xffff_ffff, 99), String(number)).toBe(ALLOW);
      }
    });

    test("lets clone make threads and children, and no namespace", () => {
      expect(ask(numberOf("clone"), 0x003d_0f00)).toBe(ALLOW);
      expect(ask(numberOf("clone"), 17)).toBe(ALLOW);
      for (const flag of [
        0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000,
      ]) {
        expect(ask(numberOf("clone"), flag | 17), flag.toString(16)).toBe(ERRNO.EPERM);
      }
    });

    test("lets sockets of four families through, netlink for routes alone", () => {
      for (const family of [1, 2, 10]) expect(ask(numberOf("socket"), family, 1, 6)).toBe(ALLOW);
      expect(ask(numberOf("socket"), 16, 3, 0)).toBe(ALLOW);
      for (const protocol of [2, 4, 9, 12, 15])
        expect(ask(numberOf("socket"), 16, 3, protocol)).toBe(ERRNO.EPROTONOSUPPORT);
      for (const family of [0, 3, 5, 15, 17, 31, 38, 40, 44, 0xffff_ffff]) {
        expect(ask(numberOf("socket"), family, 3, 0), String(family)).toBe(ERRNO.EAFNOSUPPORT);
      }
    });

    test("refuses what types into terminals, and odd personalities", () => {
      for (const request of [0x5412, 0x541c])
        expect(ask(numberOf("ioctl"), 0, request)).toBe(ERRNO.EPERM);
      for (const request of [0x5401, 0x5413, 0x5411, 0x541d])
        expect(ask(numberOf("ioctl"), 0, request)).toBe(ALLOW);
      for (const persona of [0, 8, 0x4_0000, 0xffff_ffff])
        expect(ask(numberOf("personality"), persona)).toBe(ALLOW);
      for (const persona of [0x40_0000, 0x10_0000, 0x20, 6])
        expect(ask(numberOf("personality"), persona)).toBe(ERRNO.EPERM);
    });

    test("ends a process that calls by another architecture's numbers", () => {
      expect(verdict(program, { number: 1, arch: 0x4000_0003 })).toBe(KILL);
      expect(verdict(program, { number: 1, arch: name === "x64" ? ARCH.arm64 : ARCH.x64 })).toBe(
        KILL,
      );
    });

    test("fits in the kernel's limit and has only jumps inside itself", () => {
      expect(compileSeccomp(name)).toHaveLength(program.length * 8);
      expect(program.length).toBeLessThan(4096);
      program.forEach(({ jumpTrue, jumpFalse }, at) => {
        expect(at + 1 + Math.max(jumpTrue, jumpFalse)).toBeLessThanOrEqual(program.length);
      });
    });
  },
);

test("x32 calls do not exist on x64", () => {
  const program = seccompProgram("x64");
  expect(verdict(program, { number: 0x4000_0001, arch: ARCH.x64 })).toBe(ERRNO.ENOSYS);
  expect(verdict(program, { number: 1, arch: ARCH.x64 })).toBe(ALLOW);
});

describe.skipIf(!canSandbox)("the filter in force", () => {
  let machine: Machine;
  beforeAll(() => {
    machine = new Machine();
  });
  afterAll(async () => {
    await machine[Symbol.asyncDispose]();
  });

  /** A program that tries calls by number and prints each errno; without a filter the answers differ. */
  const column = process.arch === "x64" ? 0 : 1;
  const number = (call: string) =>
    [
      ...DENIED.flatMap(({ calls }) => Object.entries(calls)),
      ...CONDITIONAL.map((rule) => [rule.call, rule.numbers] as const),
    ].find(([name]) => name === call)?.[1][column] ?? -1;
  const script = (calls: readonly (readonly [string, ...number[]])[]) =>
    calls
      .map(
        ([call, ...args]) =>
          `$! = 0; syscall(${[number(call), ...args].join(",")}); print "${call} ", $!+0, "\\n";`,
      )
      .join(" ");

  test("refuses inside what the same program may try outside", async () => {
    const calls = [
      ["unshare", 0x1000_0000],
      ["setns", 0, 0],
      ["clone3", 0, 0],
      ["bpf", 99, 0, 0],
      ["keyctl", 99],
      ["io_uring_setup", 0, 0],
      ["userfaultfd", 0],
      ["socket", 17, 3, 0],
      ["socket", 40, 1, 0],
      ["socket", 16, 3, 12],
      ["personality", 0x40_0000],
      ["open_by_handle_at", -1, 0, 0],
    ] as const;
    const { id } = await machine.start();
    const inside = await machine.run(id, `perl -e '${script(calls)}'`);
    expect(inside.stdout.trim().split("\n")).toEqual([
      "unshare 1",
      "setns 1",
      "clone3 38",
      "bpf 1",
      "keyctl 1",
      "io_uring_setup 38",
      "userfaultfd 1",
      "socket 97",
      "socket 97",
      "socket 93",
      "personality 1",
      "open_by_handle_at 1",
    ]);
    const allowed = await machine.run(
      id,
      `perl -e '${script([
        ["socket", 2, 1, 0],
        ["socket", 16, 3, 0],
        ["socket", 1, 1, 0],
        ["personality", 0xffff_ffff],
      ])}'; unshare -U true; echo $?`,
    );
    expect(allowed.stdout.trim().split("\n")).toEqual([
      "socket 0",
      "socket 0",
      "socket 0",
      "personality 0",
      "1",
    ]);
    const { execFileSync } = await import("node:child_process");
    const outside = execFileSync(
      "perl",
      [
        "-e",
        script([
          ["socket", 17, 3, 0],
          ["unshare", 0x1000_0000],
          ["clone3", 0, 0],
          ["keyctl", 99],
          ["personality", 0x40_0000],
        ]),
      ],
      { encoding: "utf8" },
    );
    expect(outside.trim().split("\n")).toEqual([
      "socket 0",
      "unshare 0",
      "clone3 22",
      "keyctl 95",
      "personality 0",
    ]);
  });
});
