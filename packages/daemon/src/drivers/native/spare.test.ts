/** Network namespaces that the warden made ahead: each is one sandbox's alone, as one made for it would be. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SandboxSpec } from "../driver.ts";
import { Machine, canSandbox } from "../testing/machine.ts";

/** More than the warden keeps ahead, so that some creates find none */
const BURST = 12;
const LOOK =
  "readlink /proc/self/ns/net; ip -o link 2>/dev/null | wc -l; cat /proc/net/dev | wc -l";

/** Children of a process, by the kernel's own list. */
function childrenOf(pid: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/u.test(name))
    .map(Number)
    .filter((each) => {
      try {
        const stat = readFileSync(`/proc/${each}/stat`, "utf8");
        return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid;
      } catch {
        return false; // It ended while we looked.
      }
    });
}

describe.skipIf(!canSandbox)("spare network namespaces", () => {
  let machine: Machine;
  beforeAll(async () => {
    machine = new Machine();
    await machine.driver();
  });
  afterAll(async () => machine[Symbol.asyncDispose]());

  test("no two sandboxes share one, one after the other and in a burst", async () => {
    const specs: SandboxSpec[] = [];
    for (let i = 0; i < 6; i++) specs.push(await machine.start());
    specs.push(...(await Promise.all(Array.from({ length: BURST }, () => machine.start()))));
    const said = await Promise.all(specs.map(({ id }) => machine.run(id, LOOK)));
    const namespaces = said.map(({ stdout }) => stdout.split("\n")[0]);
    expect(new Set(namespaces).size).toBe(specs.length);
    expect(namespaces).not.toContain(readlinkSync("/proc/self/ns/net"));
    // Two lines of headings and the loopback: nothing else is in any of them.
    expect(new Set(said.map(({ stdout }) => stdout.trim().split("\n")[2]))).toEqual(new Set(["3"]));
  });

  test("its loopback works, and what one sandbox listens on no other reaches", async () => {
    const [one, other] = [await machine.start(), await machine.start()];
    const listen = `python3 -c "import socket,time;s=socket.create_server(('127.0.0.1',7000));time.sleep(60)" & `;
    const dial = `python3 -c "import socket;socket.create_connection(('127.0.0.1',7000),5)" && echo reached`;
    const wait =
      "for i in 1 2 3 4 5 6 7 8 9; do " + `${dial} && break; sleep 0.2; done 2>/dev/null`;
    expect((await machine.run(one.id, listen + wait)).stdout).toContain("reached");
    expect((await machine.run(other.id, `${dial} 2>/dev/null`)).stdout).not.toContain("reached");
  });

  test("their makers end", async () => {
    const living = () => childrenOf(machine.wardenPid()).length;
    const { length: sandboxCount } = await (await machine.driver()).list();
    expect(sandboxCount).toBeGreaterThan(BURST);
    await expect.poll(living, { timeout: 10_000 }).toBe(sandboxCount);
  });
});
