import { readFileSync } from "node:fs";
import { KIB, invariant } from "../kernel/index.ts";
import type { MemoryReader } from "./ports.ts";

/** What `/proc/meminfo` says. */
export const systemMemory: MemoryReader = {
  read() {
    const text = readFileSync("/proc/meminfo", "latin1");
    return { totalBytes: field(text, "MemTotal"), availableBytes: field(text, "MemAvailable") };
  },
};

function field(text: string, name: string): number {
  const match = new RegExp(`^${name}: +([0-9]+) kB$`, "m").exec(text);
  invariant(match?.[1] !== undefined, `/proc/meminfo has no ${name}`);
  return Number(match[1]) * KIB;
}
