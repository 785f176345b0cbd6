import type { Template } from "@belljar/protocol";
import type { ResolvedTemplate } from "../drivers/index.ts";
import type { HostPath } from "../kernel/index.ts";
import type { Logger } from "../log/index.ts";

/** A root file system ready for the driver, and what runs in it by default. */
export interface TemplateDefaults {
  readonly root: ResolvedTemplate;
  readonly user: string;
  readonly workdir: string;
  readonly env: Readonly<Record<string, string>>;
}

export interface TemplateService {
  /** The template, assembled if it must be; TEMPLATE_NOT_FOUND for an unknown name. Answered from memory after the first time. */
  resolve(name: string): Promise<TemplateDefaults>;
  /** Every template, for people. */
  list(): Template[];
}
