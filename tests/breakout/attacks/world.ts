import { readFileSync } from "node:fs";
import { REPOSITORY } from "../../e2e/support/machine.ts";
import type { Arena, Bait } from "../arena.ts";
import { type Attack, verdict } from "../attack.ts";

const quote = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`;

/** A connecting probe for Node, which every sandbox of the `host` template has. */
function connector(target: {
  host?: string | undefined;
  port?: number | undefined;
  path?: string | undefined;
}): string {
  const program = `
const socket = require("net").connect(${JSON.stringify({ ...target, path: target.path })});
socket.setTimeout(1500, () => { console.log("timeout"); process.exit(); });
socket.on("error", (error) => { console.log("error " + error.code); process.exit(); });
socket.on("connect", () => console.log("connected"));
socket.on("data", (data) => { console.log("got " + data); process.exit(); });`;
  return `node -e ${quote(program)}`;
}

/** The line that connects: by Node, or by the probe for names that begin with NUL. */
function connecting(target: Parameters<typeof connector>[0], probe: string): string {
  const name = target.path?.startsWith("\0") === true ? target.path.slice(1) : undefined;
  return name === undefined ? connector(target) : `${quote(probe)} --abstract ${quote(name)}`;
}

async function reach(arena: Arena, target: Parameters<typeof connector>[0]) {
  const line = connecting(target, "/home/user/probe");
  const asUser = await arena.inside(line);
  const asRoot = await arena.inside(line, "root");
  const said = `${asUser.stdout}${asRoot.stdout}${asUser.stderr}`;
  return { got: said.includes("connected"), said };
}

function baitAttack(index: number, what: string): Attack {
  return {
    name: `connect to ${what}`,
    wall: "network",
    async run(arena) {
      const bait: Bait | undefined = arena.bait[index];
      if (bait === undefined)
        return { held: true, control: "absent", detail: `this machine has not got ${what}` };
      const before = bait.seen();
      const inside = await reach(arena, bait);
      const touched = bait.seen() !== before;
      const outside = await arena.outside(connecting(bait, arena.probe));
      return verdict(
        { got: inside.got || touched, said: inside.said },
        { got: outside.stdout.includes("connected"), said: outside.stdout },
      );
    },
  };
}

const LISTEN = (port: number) =>
  `node -e ${quote(`require("net").createServer((s) => s.end("hi")).listen(${port}, "0.0.0.0"); require("net").createServer((s) => s.end("hi")).listen("\\0neighbour-${port}")`)}`;

export const worldAttacks: readonly Attack[] = [
  baitAttack(0, "the host's loopback"),
  baitAttack(1, "a socket file of the host"),
  baitAttack(2, "an abstract socket of the host"),
  baitAttack(3, "the host's outer address"),
  {
    name: "reach the daemon's API",
    wall: "network",
    async run(arena) {
      const target = { host: "127.0.0.1", port: arena.daemon.port };
      const outside = await arena.outside(connector(target));
      return verdict(await reach(arena, target), {
        got: outside.stdout.includes("connected"),
        said: outside.stdout,
      });
    },
  },
  {
    name: "reach the outside: addresses, names and the cloud's metadata",
    wall: "network",
    async run(arena) {
      const targets = [
        { host: "169.254.169.254", port: 80 },
        { host: "192.0.2.1", port: 80 },
        { host: "example.com", port: 80 },
        { host: "::1", port: arena.daemon.port },
      ];
      const tried = await Promise.all(targets.map((target) => reach(arena, target)));
      const interfaces = await arena.inside(
        "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '",
      );
      const onlyLoopback = interfaces.stdout.trim() === "lo";
      const host = await arena.outside("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '");
      return verdict(
        {
          got: tried.some(({ got }) => got) || !onlyLoopback,
          said: `${interfaces.stdout} ${tried.map(({ said }) => said).join(" ")}`,
        },
        { got: host.stdout.trim() !== "lo", said: host.stdout },
      );
    },
  },
  {
    name: "reach a neighbour's port and abstract socket",
    wall: "network",
    async run(arena) {
      const { api } = arena.daemon;
      const port = 7777;
      const started = await api.json<{ pid: number }>(
        "POST",
        `/v1/sandboxes/${arena.neighbour}/processes`,
        { body: { command: LISTEN(port) } },
      );
      const probe = `for i in 1 2 3 4 5 6 7 8; do ${connector({ host: "127.0.0.1", port })} | grep got && exit 0; sleep 0.2; done`;
      const own = await api.exec(arena.neighbour, probe);
      const tcp = await reach(arena, { host: "127.0.0.1", port });
      const abstract = await reach(arena, { path: `\0neighbour-${port}` });
      await api.call("POST", `/v1/sandboxes/${arena.neighbour}/processes/${started.pid}/signal`, {
        body: { signal: "SIGKILL" },
      });
      return verdict(
        { got: tcp.got || abstract.got, said: tcp.said + abstract.said },
        { got: own.stdout.includes("got"), said: own.stdout + own.stderr },
      );
    },
  },
  {
    name: "see or end a process of the host",
    wall: "processes",
    async run(arena) {
      const { pid } = arena.victim;
      const seen = await arena.inside(
        `kill -9 ${pid}; kill -9 -${pid}; ls /proc | grep -c '^[0-9]'`,
        "root",
      );
      const pids = await arena.inside("ls /proc | grep '^[0-9]' | sort -n | tail -1");
      const dead =
        arena.victim.process.exitCode !== null || arena.victim.process.signalCode !== null;
      const hostPids = await arena.outside(`kill -0 ${pid} && echo can`);
      const count = Number(seen.stdout.trim().split("\n").at(-1));
      return verdict(
        {
          got: dead || count > 20,
          said: `dead ${dead}, sees ${count} processes, highest ${pids.stdout}`,
        },
        { got: hostPids.stdout.includes("can"), said: hostPids.stdout },
      );
    },
  },
  {
    name: "end a neighbour's processes",
    wall: "processes",
    async run(arena) {
      await arena.inside("kill -9 -1; true", "root").catch(() => undefined);
      const alive = await arena.daemon.api.exec(arena.neighbour, ["echo", "alive"]);
      const mine = await arena.inside("sleep 50 & kill -9 $! && wait $!; echo $?", "root");
      return verdict(
        { got: alive.stdout !== "alive\n", said: alive.stdout },
        { got: mine.stdout.includes("137"), said: mine.stdout },
      );
    },
  },
  {
    name: "gain root through a setuid program",
    wall: "users",
    async run(arena) {
      const line =
        "for p in /usr/bin/su /usr/bin/passwd /usr/bin/mount; do test -u $p && echo setuid $p; done; echo | su -c id 2>&1; grep -i NoNewPrivs /proc/self/status";
      const inside = await arena.inside(line);
      const host = await arena.outside(
        "for p in /usr/bin/su /usr/bin/passwd /usr/bin/mount; do test -u $p && echo setuid; done",
      );
      const got = /uid=0/.test(inside.stdout) || !/NoNewPrivs:\s+1/.test(inside.stdout);
      return verdict(
        { got, said: inside.stdout },
        { got: host.stdout.includes("setuid"), said: host.stdout },
      );
    },
  },
  {
    name: "be a user of the host's, or of a neighbour's",
    wall: "users",
    async run(arena) {
      const ranges = [arena.guestPid, arena.neighbourPid].map((pid) =>
        readFileSync(`/proc/${pid}/uid_map`, "utf8")
          .trim()
          .split("\n")
          .map((line) => line.trim().split(/\s+/).map(Number)),
      );
      const flat = ranges.map((lines) =>
        lines.map(([, start = 0, count = 0]) => [start, start + count - 1] as const),
      );
      const overlaps =
        flat[0]?.some(([from, to]) => flat[1]?.some(([low, high]) => from <= high && low <= to)) ??
        true;
      const low = flat.flat().some(([from]) => from < 65_536);
      const isRoot = process.getuid?.() === 0;
      return {
        held: isRoot ? !overlaps && !low : true,
        control: isRoot ? "works" : "absent",
        detail: JSON.stringify(ranges),
      };
    },
  },
  {
    name: "find a descriptor that is not 0, 1 or 2",
    wall: "leaks",
    async run(arena) {
      const line =
        "ls -l /proc/self/fd | tail -n +2 | sed 's/.* \\([0-9]*\\) -> /\\1 /' | grep -v '/proc/[0-9]*/fd'";
      const asUser = await arena.inside(line);
      const asRoot = await arena.inside(line, "root");
      const numbers = (asUser.stdout + asRoot.stdout)
        .split("\n")
        .filter((text) => text !== "")
        .map((text) => Number(text.split(" ")[0]));
      const host = await arena.outside(`exec 7</dev/null; ${line}`);
      return verdict(
        { got: numbers.some((number) => number > 2), said: asUser.stdout + asRoot.stdout },
        { got: /^7 /m.test(host.stdout), said: host.stdout },
      );
    },
  },
  {
    name: "find a secret of the daemon in any environment, argument or file",
    wall: "leaks",
    async run(arena) {
      const { token } = arena.daemon;
      const needles = [arena.secret, token].map(quote).join(" -e ");
      // The probe's own arguments hold the needles: they are left out by number.
      const line = `env | grep -c -e ${needles}; for f in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do case $f in /proc/$$/*|/proc/self/*) continue;; esac; tr '\\0' '\\n' < $f 2>/dev/null | grep -v 'grep\\|tr .0\\|for f in' | grep -q -e ${needles} && echo LEAK $f; done; grep -rIsl -e ${needles} /etc /home /root /run /var /opt /tmp 2>/dev/null | sed 's/^/LEAK /'`;
      const asUser = await arena.inside(line);
      const asRoot = await arena.inside(line, "root");
      const said = asUser.stdout + asRoot.stdout;
      const environ = readFileSync(`/proc/${arena.daemon.pid}/environ`, "utf8");
      return verdict(
        { got: said.includes("LEAK") || /^[1-9]/m.test(said), said },
        { got: environ.includes(arena.secret), said: "the daemon's own environment" },
      );
    },
  },
  {
    name: "learn the host's paths, name or boot parameters",
    wall: "leaks",
    async run(arena) {
      const line =
        "cat /proc/self/mountinfo /proc/1/mountinfo /proc/mounts /proc/self/cgroup /proc/1/cgroup 2>/dev/null; hostname";
      const said = (await arena.inside(line, "root")).stdout;
      const name = (await arena.outside("hostname")).stdout.trim();
      const needles = [arena.daemon.dataDir, REPOSITORY, "/volumes/"];
      const found = needles.filter((needle) => said.includes(needle));
      return verdict(
        { got: found.length > 0 || said.trim().endsWith(`\n${name}`), said: found.join(" ") },
        { got: name !== "", said: name },
      );
    },
  },
];
