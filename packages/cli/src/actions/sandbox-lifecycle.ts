import type { Sandbox } from "@belljar/sdk";
import { openClient } from "../client.ts";
import type { Action, Context } from "../command.ts";
import { EXIT, reportFailure } from "../failure.ts";
import type { Input } from "../input.ts";

/** What is printed of one sandbox when it is done. */
interface Change {
  readonly label: string;
  readonly done: string;
  /** Resolves to what `--json` prints */
  readonly apply: (sandbox: Sandbox, context: Context, input: Input) => Promise<unknown>;
}

/** `belljar sandbox freeze` */
export const sandboxFreeze: Action = forEach({
  label: "freezing",
  done: "frozen",
  apply: (sandbox, { signal }) => sandbox.freeze({ signal }),
});

/** `belljar sandbox wake` */
export const sandboxWake: Action = forEach({
  label: "waking",
  done: "running",
  apply: (sandbox, { signal }) => sandbox.wake({ signal }),
});

/** `belljar sandbox stop` */
export const sandboxStop: Action = forEach({
  label: "stopping",
  done: "stopped",
  apply: (sandbox, { signal }) => sandbox.stop({ signal }),
});

/** `belljar sandbox rm` */
export const sandboxRemove: Action = forEach({
  label: "destroying",
  done: "destroyed",
  apply: async (sandbox, { signal }, input) => {
    await sandbox.destroy({ keepWorkspace: input.flag("keepWorkspace"), signal });
    return { id: sandbox.id, state: "destroyed" };
  },
});

/** One that fails does not keep the others from their turn; the exit code tells. */
function forEach(change: Change): Action {
  return async (context, input) => {
    const client = await openClient(context);
    let exitCode: number = EXIT.ok;
    for (const idOrName of input.texts("sandboxes")) {
      try {
        const result = await context.output.progress(`${change.label} ${idOrName}`, async () =>
          change.apply(await client.sandbox(idOrName, context.signal), context, input),
        );
        if (context.output.json) context.output.data(result);
        else context.output.say(`${idOrName} ${change.done}`);
      } catch (error) {
        context.signal.throwIfAborted();
        exitCode = reportFailure(context.output, error);
        if (exitCode === EXIT.unreachable) return exitCode;
      }
    }
    return exitCode;
  };
}
