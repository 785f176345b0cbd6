import type { ResolvedTemplate } from "../drivers/index.ts";

/** A template with the defaults of what runs in it. */
export interface TemplateForStart {
  readonly root: ResolvedTemplate;
  readonly user: string;
  readonly workdir: string;
  /** Environment below the sandbox's own */
  readonly env: Readonly<Record<string, string>>;
}

/** Finds templates; given by whoever composes. TEMPLATE_NOT_FOUND for a name that is none. */
export interface TemplateResolver {
  resolve(name: string): Promise<TemplateForStart>;
}

/** Memory of the machine in bytes. Synchronous: an admission must not be interleaved with another. */
export interface MemoryReader {
  read(): { totalBytes: number; availableBytes: number };
}
