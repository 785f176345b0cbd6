import type { SandboxId } from "../kernel/index.ts";
import type { SandboxGuest, SandboxService } from "../sandbox/index.ts";

/** The guest, and whom a file operation acts as: the one asked for, else the template's user, never root by omission. */
export async function filesOf(
  sandboxes: SandboxService,
  id: SandboxId,
  asked: string | undefined,
): Promise<{ guest: SandboxGuest; user: string }> {
  const guest = await sandboxes.guest(id);
  return { guest, user: asked ?? (await sandboxes.commandDefaults(id)).user };
}
