import type { Context } from "../command.ts";
import { renderCompletion } from "../completion/index.ts";
import type { Input } from "../input.ts";

/** `belljar completion` */
export async function completion(context: Context, input: Input): Promise<void> {
  const script = renderCompletion(input.required("shell"));
  if (context.output.json) context.output.data({ shell: input.required("shell"), script });
  else context.output.page(script);
}
