import { readFileSync } from "node:fs";
import { until } from "../../e2e/support/machine.ts";
import type { Arena } from "../arena.ts";
import type { Attack, Verdict } from "../attack.ts";

const MIB = 2 ** 20;

function availableMib(): number {
  return Number(/MemAvailable:\s+([0-9]+)/.exec(readFileSync("/proc/meminfo", "utf8"))?.[1]) / 1024;
}

async function neighbourIsWell(arena: Arena): Promise<boolean> {
  const { stdout } = await arena.daemon.api.exec(arena.neighbour, ["echo", "well"]);
  return stdout === "well\n" && arena.victim.process.exitCode === null;
}

/** After an attack on the machine's resources: the attacker's sandbox can be brought back. */
async function revive(arena: Arena): Promise<void> {
  const { api } = arena.daemon;
  await until(
    "the attacker's sandbox stops",
    async () => (await api.call("POST", `/v1/sandboxes/${arena.attacker}/stop`)).status === 200,
  );
  await api.move(arena.attacker, "wake");
  await api.exec(arena.attacker, ["true"]);
}

async function limited(arena: Arena, work: () => Promise<string>): Promise<Verdict> {
  const before = availableMib();
  const detail = await work();
  const well = await neighbourIsWell(arena);
  await revive(arena);
  const lost = before - availableMib();
  return {
    held: well && !detail.startsWith("BREACH"),
    control: "works",
    detail: `${detail}; neighbour ${well ? "well" : "HARMED"}; ${lost.toFixed(0)} MiB less available`,
  };
}

export const resourceAttacks: readonly Attack[] = [
  {
    name: "fork without end",
    wall: "resources",
    run: (arena) =>
      limited(arena, async () => {
        const bomb = await arena
          .inside("f() { f | f & }; f; sleep 2; ls /proc | grep -c '^[0-9]'", "user", 8000)
          .catch((error: unknown) => ({ stdout: String(error), stderr: "", reason: "error" }));
        const usage = await arena.daemon.api
          .json<{ processCount: number }>("GET", `/v1/sandboxes/${arena.attacker}/usage`)
          .catch(() => ({ processCount: -1 }));
        return `${usage.processCount > 200 ? "BREACH" : "held"} at ${usage.processCount} processes, ${bomb.reason}`;
      }),
  },
  {
    name: "allocate without end",
    wall: "resources",
    run: (arena) =>
      limited(arena, async () => {
        const hog = "const kept = []; for (;;) kept.push(Buffer.alloc(8 * 1048576, 1));";
        const ended = await arena
          .inside(`node -e '${hog}'; echo "code $?"`, "user", 30_000)
          .catch((error: unknown) => ({ stdout: String(error), reason: "error" }));
        const usage = await arena.daemon.api
          .json<{ memoryBytes: number }>("GET", `/v1/sandboxes/${arena.attacker}/usage`)
          .catch(() => ({ memoryBytes: 0 }));
        return `${usage.memoryBytes > 300 * MIB ? "BREACH" : "held"}: ${ended.stdout.trim().slice(-60)} (${ended.reason})`;
      }),
  },
  {
    name: "fill /tmp and /dev/shm, which are memory",
    wall: "resources",
    run: (arena) =>
      limited(arena, async () => {
        const filled = await arena
          .inside(
            "head -c 4G /dev/zero > /tmp/fill; head -c 4G /dev/zero > /dev/shm/fill; du -sm /tmp /dev/shm | cut -f1",
            "user",
            30_000,
          )
          .catch((error: unknown) => ({ stdout: String(error), stderr: "" }));
        const sizes = filled.stdout
          .split("\n")
          .map(Number)
          .filter((size) => size > 0);
        const total = sizes.reduce((sum, size) => sum + size, 0);
        return `${total > 600 ? "BREACH" : "held"} at ${total} MiB`;
      }),
  },
  {
    name: "fill the disk",
    wall: "resources",
    async run(arena) {
      const { api } = arena.daemon;
      const pool = (await api.json<{ driver: { storagePool: string } }>("GET", "/v1/status")).driver
        .storagePool;
      if (pool === "directory")
        return {
          held: true,
          control: "absent",
          detail: "the pool is a plain directory, which says that it has no limit",
        };
      const small = await api.create({ limits: { diskBytes: 64 * MIB } });
      arena.daemon.sandboxIds.add(small.id);
      const filled = await api.exec(
        small.id,
        "head -c 300M /dev/urandom > /home/user/fill; stat -c %s /home/user/fill; head -c 300M /dev/urandom > /var/tmp/fill; true",
        { user: "root", timeoutMs: 60_000 },
      );
      const bytes = Number(filled.stdout.trim().split("\n")[0]);
      await api.destroy(small.id);
      return {
        held: bytes <= 80 * MIB && (await neighbourIsWell(arena)),
        control: "works",
        detail: `stopped at ${bytes} bytes`,
      };
    },
  },
  {
    name: "flood the daemon with output",
    wall: "resources",
    run: (arena) =>
      limited(arena, async () => {
        const residentKib = () =>
          Number(
            /VmRSS:\s+([0-9]+)/.exec(readFileSync(`/proc/${arena.daemon.pid}/status`, "utf8"))?.[1],
          );
        const before = residentKib();
        const { api } = arena.daemon;
        await Promise.all(
          Array.from({ length: 4 }, () =>
            api.exec(arena.attacker, "yes | head -c 400000000; yes >&2 | head -c 1", {
              outputBytesMax: 1000,
              timeoutMs: 20_000,
            }),
          ),
        );
        const grown = (residentKib() - before) / 1024;
        return `${grown > 300 ? "BREACH" : "held"}: the daemon grew by ${grown.toFixed(0)} MiB`;
      }),
  },
  {
    name: "open connections and descriptors without end",
    wall: "resources",
    run: (arena) =>
      limited(arena, async () => {
        const opener =
          'const fs = require("fs"); let n = 0; try { for (;;) { fs.openSync("/dev/null"); n++; } } catch (e) { console.log(e.code, n); }';
        const { stdout } = await arena.inside(`node -e '${opener}'`);
        return `${/^E[MN]FILE/.test(stdout) ? "held" : "BREACH"}: ${stdout.trim()}`;
      }),
  },
  {
    name: "raise one's own limits",
    wall: "resources",
    async run(arena) {
      const line =
        "ulimit -Hn; ulimit -n 10000000 2>&1 && echo RAISED; ulimit -u unlimited 2>/dev/null; renice -n -20 $$ >/dev/null 2>&1 && echo RENICED; echo -1000 > /proc/self/oom_score_adj 2>/dev/null && echo UNKILLABLE";
      const asRoot = await arena.inside(line, "root");
      const host = await arena.outside("renice -n -1 $$ > /dev/null && echo RENICED");
      return {
        held: !/RAISED|RENICED|UNKILLABLE/.test(asRoot.stdout),
        control: host.stdout.includes("RENICED") ? "works" : "absent",
        detail: asRoot.stdout.trim(),
      };
    },
  },
];
