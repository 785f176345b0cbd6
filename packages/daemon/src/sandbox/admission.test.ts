import { BelljarError } from "@belljar/protocol";
import { expect, test } from "vitest";
import { GIB, MIB, newSandboxId } from "../kernel/index.ts";
import { MemoryAdmission } from "./admission.ts";
import { FakeClock } from "./testing/fake-clock.ts";

const REQUEST = { limitBytes: 2 * GIB, measuredBytes: null, isBare: false };

function make(memory: { totalBytes: number; availableBytes: number }) {
  const clock = new FakeClock();
  const settings = {
    memoryFloorPercent: 10,
    memoryExpectedBytes: 64 * MIB,
    memoryReservationMs: 60_000,
  };
  return {
    clock,
    admission: new MemoryAdmission({ memory: { read: () => memory }, clock, settings }),
  };
}

/** Exactly enough above the floor for `count` starts */
function roomFor(count: number) {
  return { totalBytes: 1000 * MIB, availableBytes: 100 * MIB + count * 64 * MIB };
}

test("admit() lets in what fits above the floor and nothing more", () => {
  const { admission } = make(roomFor(2));
  admission.admit(newSandboxId(), REQUEST);
  admission.admit(newSandboxId(), REQUEST);
  expect(() => admission.admit(newSandboxId(), REQUEST)).toThrow(/not enough memory/);
  expect(admission.facts().reservedBytes).toBe(128 * MIB);
});

test("admit() counts a cost of 800 MiB against a floor of 10 %", () => {
  const eightHundred = { limitBytes: 800 * MIB, measuredBytes: null, isBare: false };
  const settings = {
    memoryFloorPercent: 10,
    memoryExpectedBytes: 800 * MIB,
    memoryReservationMs: 1000,
  };
  const enough = { totalBytes: 8000 * MIB, availableBytes: 1600 * MIB };
  const clock = new FakeClock();
  const roomy = new MemoryAdmission({ memory: { read: () => enough }, clock, settings });
  expect(() => roomy.admit(newSandboxId(), eightHundred)).not.toThrow();
  const short = { ...enough, availableBytes: 1600 * MIB - 1 };
  const tight = new MemoryAdmission({ memory: { read: () => short }, clock, settings });
  expect(() => tight.admit(newSandboxId(), eightHundred)).toThrow(BelljarError);
});

test("admit() never expects more than the sandbox's own limit", () => {
  const { admission } = make(roomFor(1));
  admission.admit(newSandboxId(), { ...REQUEST, limitBytes: 16 * MIB });
  expect(admission.facts().reservedBytes).toBe(16 * MIB);
});

test("a reservation ends with its time", async () => {
  const { admission, clock } = make(roomFor(1));
  admission.admit(newSandboxId(), REQUEST);
  await clock.advance(59_999);
  expect(() => admission.admit(newSandboxId(), REQUEST)).toThrow(BelljarError);
  await clock.advance(1);
  expect(() => admission.admit(newSandboxId(), REQUEST)).not.toThrow();
});

test("a reservation shrinks by what has become resident", () => {
  const { admission } = make(roomFor(4));
  const id = newSandboxId();
  admission.admit(id, REQUEST);
  admission.observe(id, 24 * MIB);
  expect(admission.facts().reservedBytes).toBe(40 * MIB);
  admission.observe(id, 65 * MIB);
  expect(admission.facts().reservedBytes).toBe(0);
});

test("release() gives back once, whatever came before", () => {
  const { admission } = make(roomFor(4));
  const id = newSandboxId();
  admission.admit(id, REQUEST);
  admission.observe(id, 10 * MIB);
  admission.release(id);
  admission.release(id);
  expect(admission.facts().reservedBytes).toBe(0);
});

test("admitting the same sandbox again replaces its reservation", () => {
  const { admission } = make(roomFor(4));
  const id = newSandboxId();
  admission.admit(id, REQUEST);
  admission.admit(id, REQUEST);
  expect(admission.facts().reservedBytes).toBe(64 * MIB);
});

test("bare starts cost what bare starts were measured to cost", () => {
  const { admission } = make(roomFor(10));
  const bare = { ...REQUEST, isBare: true };
  for (let index = 0; index < 8; index++) {
    const id = newSandboxId();
    admission.admit(id, bare);
    admission.learn(id, 3 * MIB);
    admission.release(id);
  }
  admission.admit(newSandboxId(), bare);
  expect(admission.facts().reservedBytes).toBe(6 * MIB);
  admission.admit(newSandboxId(), REQUEST);
  expect(admission.facts().reservedBytes).toBe(70 * MIB);
});
