import type { FileStat, ListeningPort, Process } from "@belljar/protocol";
import type {
  FileStat as GuestFileStat,
  GuestProcess,
  ListeningPort as GuestListeningPort,
} from "../guest/index.ts";
import { toInstant } from "./request.ts";

/** A file of the guest as the API shows it; `path` is where it was asked for. */
export function toFileStat(stat: GuestFileStat, path: string): FileStat {
  const { name, type, size, mode, uid, gid, owner, group, modifiedAtMs, symlinkTarget } = stat;
  return {
    path,
    name: name.slice(name.lastIndexOf("/") + 1),
    type,
    size,
    mode: mode.toString(8).padStart(4, "0"),
    uid,
    gid,
    owner,
    group,
    modifiedAt: toInstant(modifiedAtMs),
    symlinkTarget,
  };
}

/** A process of the guest as the API shows it. */
export function toProcess(process: GuestProcess): Process {
  const { pid, tag, command, cwd, startedAtMs, terminal, running, exit } = process;
  return {
    pid,
    tag,
    command: [...command],
    cwd,
    startedAt: toInstant(startedAtMs),
    terminal,
    running,
    exit,
  };
}

/** A listening port of the guest as the API shows it. */
export function toPort({ port, address, pid, command }: GuestListeningPort): ListeningPort {
  return { port, address, pid, command };
}
