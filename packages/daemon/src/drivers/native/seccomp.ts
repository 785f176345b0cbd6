/** Compiles the deny-list into the classic BPF program that seccomp(2) takes. */
import { invariant } from "../../kernel/index.ts";
import type { Architecture, ArgumentTest } from "./seccomp-policy.ts";
import { CONDITIONAL, DENIED, ERRNO } from "./seccomp-policy.ts";

/** Offsets in `struct seccomp_data`, little endian */
const DATA = { number: 0, architecture: 4, arguments: 16 } as const;
const ARGUMENT_BYTES = 8;

/** Classic BPF: load a word of the data, compare, return */
const CODE = {
  load: 0x20,
  jumpEqual: 0x15,
  jumpAtLeast: 0x35,
  jumpAnyBit: 0x45,
  return: 0x06,
} as const;
const RETURN = { allow: 0x7fff_0000, errno: 0x0005_0000, killProcess: 0x8000_0000 } as const;
const AUDIT_ARCH: Record<Architecture, number> = { x64: 0xc000_003e, arm64: 0xc000_00b7 };
/** Set in the numbers of x32 calls, which share the architecture's name with x86-64 */
const X32_BIT = 0x4000_0000;
const INSTRUCTION_BYTES = 8;
const JUMP_MAX = 255;

/** One instruction of the program: opcode, jumps when true and false, operand. */
export interface Instruction {
  readonly code: number;
  readonly jumpTrue: number;
  readonly jumpFalse: number;
  readonly operand: number;
}

/** The program for an architecture as the bytes of `struct sock_filter[]`. */
export function compileSeccomp(architecture: Architecture): Buffer {
  const program = seccompProgram(architecture);
  const bytes = Buffer.alloc(program.length * INSTRUCTION_BYTES);
  for (const [index, { code, jumpTrue, jumpFalse, operand }] of program.entries()) {
    const at = index * INSTRUCTION_BYTES;
    bytes.writeUInt16LE(code, at);
    bytes.writeUInt8(jumpTrue, at + 2);
    bytes.writeUInt8(jumpFalse, at + 3);
    bytes.writeUInt32LE(operand, at + 4);
  }
  return bytes;
}

/** The same program, readable. Any other architecture's calls end the process: their numbers mean other things. */
export function seccompProgram(architecture: Architecture): Instruction[] {
  const program = [
    load(DATA.architecture),
    jump(CODE.jumpEqual, AUDIT_ARCH[architecture], 1, 0),
    end(RETURN.killProcess),
    load(DATA.number),
  ];
  if (architecture === "x64") {
    program.push(jump(CODE.jumpAtLeast, X32_BIT, 0, 1), refuse("ENOSYS"));
  }
  const column = architecture === "x64" ? 0 : 1;
  for (const { calls, errno } of DENIED) {
    for (const numbers of Object.values(calls)) {
      const number = numbers[column];
      if (number !== null) program.push(jump(CODE.jumpEqual, number, 0, 1), refuse(errno));
    }
  }
  for (const rule of CONDITIONAL) {
    const number = rule.numbers[column];
    if (number === null) continue;
    const body = conditionalBody(rule.when, refuse(rule.errno));
    invariant(body.length <= JUMP_MAX, "a rule is too long for its jump");
    program.push(jump(CODE.jumpEqual, number, 0, body.length), ...body);
  }
  return [...program, end(RETURN.allow)];
}

/** Tests one after the other; the first that does not hold goes to the last instruction, which loads the number again. */
function conditionalBody(
  when: readonly { readonly argument: number; readonly test: ArgumentTest }[],
  refusal: Instruction,
): Instruction[] {
  let body = [refusal, load(DATA.number)];
  for (const { argument, test } of when.toReversed()) {
    const toOutside = body.length - 1;
    body = [
      load(DATA.arguments + argument * ARGUMENT_BYTES),
      ...testInstructions(test, toOutside),
      ...body,
    ];
  }
  return body;
}

/** Falls through when the test holds; jumps over `outside` more instructions when it does not. */
function testInstructions(test: ArgumentTest, outside: number): Instruction[] {
  if ("hasAnyBitOf" in test) return [jump(CODE.jumpAnyBit, test.hasAnyBitOf, 0, outside)];
  const isOneOf = "isOneOf" in test;
  const values = isOneOf ? test.isOneOf : test.isNoneOf;
  return values.map((value, index) => {
    const rest = values.length - 1 - index;
    if (isOneOf) return jump(CODE.jumpEqual, value, rest, rest === 0 ? outside : 0);
    return jump(CODE.jumpEqual, value, rest + outside, 0);
  });
}

function load(offset: number): Instruction {
  return { code: CODE.load, jumpTrue: 0, jumpFalse: 0, operand: offset };
}

function jump(code: number, operand: number, jumpTrue: number, jumpFalse: number): Instruction {
  return { code, jumpTrue, jumpFalse, operand };
}

function end(operand: number): Instruction {
  return { code: CODE.return, jumpTrue: 0, jumpFalse: 0, operand };
}

function refuse(errno: keyof typeof ERRNO): Instruction {
  return end(RETURN.errno | ERRNO[errno]);
}
