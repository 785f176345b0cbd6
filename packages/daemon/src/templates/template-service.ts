import { join } from "node:path";
import { BelljarError } from "@belljar/protocol";
import type { Template } from "@belljar/protocol";
import type { ResolvedTemplate } from "../drivers/index.ts";
import { hostPath } from "../kernel/index.ts";
import type { HostPath } from "../kernel/index.ts";
import type { Logger } from "../log/index.ts";
import { hashEntries } from "./entries.ts";
import type { RootEntry } from "./entries.ts";
import { readHostEtc } from "./host-data.ts";
import { OWN_PROGRAMS, readHostLayout } from "./host-layout.ts";
import { ownEntries, USER_HOME } from "./own-files.ts";
import { writeRoot } from "./write-root.ts";

/** A root file system ready for the driver, and what runs in it by default. */
export interface TemplateDefaults {
  readonly root: ResolvedTemplate;
  readonly user: string;
  readonly workdir: string;
  /** Without HOME, USER and SHELL, which the guest sets for whoever a command runs as */
  readonly env: Readonly<Record<string, string>>;
}

export interface TemplateService {
  /** The template, assembled if it must be; TEMPLATE_NOT_FOUND for an unknown name. Answered from memory after the first time. */
  resolve(name: string): Promise<TemplateDefaults>;
  /** Every template, for people. */
  list(): Template[];
}

export interface TemplateServiceOptions {
  readonly dataDir: HostPath;
  readonly logger: Logger;
  /** Default: the Node that runs the daemon; shown inside where the machine has none of its own */
  readonly nodePath?: HostPath;
}

const HOST: Template = {
  name: "host",
  description: "This machine's own programs and libraries, read-only, with none of its data",
  defaultUser: "user",
  workdir: USER_HOME,
};

const PATH = [
  "/usr/local/sbin",
  "/usr/local/bin",
  "/usr/sbin",
  "/usr/bin",
  "/sbin",
  "/bin",
  OWN_PROGRAMS,
].join(":");

/** Builds the service; nothing is read or written before the first `resolve`. */
export function createTemplateService(options: TemplateServiceOptions): TemplateService {
  return new Templates(options);
}

class Templates implements TemplateService {
  readonly #options: TemplateServiceOptions;
  #host: Promise<TemplateDefaults> | undefined;

  constructor(options: TemplateServiceOptions) {
    this.#options = options;
  }

  async resolve(name: string): Promise<TemplateDefaults> {
    if (name !== HOST.name) {
      throw new BelljarError("TEMPLATE_NOT_FOUND", `there is no template ${name}`, {
        name,
        known: [HOST.name],
      });
    }
    this.#host ??= this.#assembleHost().catch((error: unknown) => {
      // The next one tries again: the disk may have room by then.
      this.#host = undefined;
      throw error;
    });
    return await this.#host;
  }

  list(): Template[] {
    return [HOST];
  }

  async #assembleHost(): Promise<TemplateDefaults> {
    const layout = await readHostLayout({
      nodePath: this.#options.nodePath ?? hostPath(process.execPath),
    });
    const entries = mergeEntries([
      ...layout.entries,
      ...ownEntries(layout.shell),
      ...(await readHostEtc("/etc")),
    ]);
    const name = `host-${hashEntries(entries, layout.binds)}`;
    const root = hostPath(join(this.#options.dataDir, "templates", name));
    await writeRoot(root, entries);
    this.#options.logger.info("template.ready", {
      template: HOST.name,
      root,
      entryCount: entries.length,
    });
    return {
      root: { name: HOST.name, layers: [root], binds: layout.binds },
      user: HOST.defaultUser,
      workdir: HOST.workdir,
      env: { PATH, LANG: "C.UTF-8", TERM: "xterm-256color" },
    };
  }
}

/** Each path once, the first that names it, and folders before what lies in them. */
function mergeEntries(entries: readonly RootEntry[]): RootEntry[] {
  const byPath = new Map<string, RootEntry>();
  for (const entry of entries) if (!byPath.has(entry.path)) byPath.set(entry.path, entry);
  return [...byPath.values()].toSorted((a, b) => (a.path < b.path ? -1 : 1));
}
