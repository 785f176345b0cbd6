/**
 * Templates: read-only root file systems with defaults. `host` is this machine's own `/usr` below an
 * `/etc` of ours; it is assembled under the data directory when first asked for.
 */
export type { TemplateDefaults, TemplateService } from "./template-service.ts";
export { createTemplateService } from "./template-service.ts";
