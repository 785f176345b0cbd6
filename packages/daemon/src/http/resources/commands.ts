import { execRequestSchema, execResultSchema } from "@belljar/protocol";
import type { SandboxId } from "../../kernel/index.ts";
import { runBuffered } from "../buffered-exec.ts";
import { clientGone, sandboxParams } from "../request.ts";
import type { Api, RouteContext } from "../services.ts";
import { ExecSlots } from "../exec-slots.ts";

/** `POST …/exec`: runs to its end and answers with the output. */
export function registerCommands(api: Api, { sandboxes, clock, settings }: RouteContext): void {
  const slots = new ExecSlots<SandboxId>(settings.execsPerSandboxMax);
  api.post(
    "/v1/sandboxes/:id/exec",
    {
      config: { policy: "operate" },
      schema: {
        tags: ["commands"],
        operationId: "exec",
        summary: "Run a command to its end; it is ended when the client goes away",
        params: sandboxParams,
        body: execRequestSchema,
        response: { 200: execResultSchema },
      },
    },
    async ({ params: { id }, body }, reply) => {
      using _slot = slots.take(id);
      const signal = clientGone(reply);
      const guest = await sandboxes.guest(id, { signal });
      // Awaited here: the slot is held until the command has ended.
      return await sandboxes.withActivity(id, async () => {
        const defaults = await sandboxes.commandDefaults(id);
        return runBuffered(guest, { body, defaults, clock, signal });
      });
    },
  );
}
