import type { Scope, Token } from "@belljar/protocol";
import { BelljarError } from "@belljar/protocol";
import { openClient } from "../client.ts";
import type { Context } from "../command.ts";
import type { Input } from "../input.ts";
import { describeAge } from "../sandbox-view.ts";

/** `belljar token create` */
export async function tokenCreate(context: Context, input: Input): Promise<void> {
  const { belljar } = await openClient(context);
  const scope = input.text("scope") as Scope | undefined;
  const expiresInMs = input.number("expires");
  const token = await belljar.tokens.create(
    {
      name: input.required("name"),
      ...(scope === undefined ? {} : { scope }),
      ...(expiresInMs === undefined ? {} : { expiresInMs }),
    },
    { signal: context.signal },
  );
  if (context.output.json) return context.output.data(token);
  context.output.line(token.token ?? "");
  context.output.say(
    `${token.id}, scope ${token.scope}, ${token.expiresAt === null ? "never expires" : `expires ${token.expiresAt}`}; shown this once`,
  );
}

/** `belljar token ls` */
export async function tokenList(context: Context): Promise<void> {
  const { belljar } = await openClient(context);
  const items = await belljar.tokens.list({ signal: context.signal });
  if (context.output.json) return context.output.data({ items });
  const columns = [
    { title: "ID" },
    { title: "NAME", shrink: true },
    { title: "SCOPE" },
    { title: "EXPIRES" },
    { title: "USED" },
  ];
  context.output.table(columns, items.map(rowOf));
}

function rowOf(token: Token): string[] {
  const used = token.lastUsedAt === null ? "never" : describeAge(token.lastUsedAt);
  return [token.id, token.name, token.scope, token.expiresAt ?? "never", used];
}

/** `belljar token rm` */
export async function tokenRemove(context: Context, input: Input): Promise<void> {
  const { belljar } = await openClient(context);
  const wanted = input.required("token");
  const token = findToken(await belljar.tokens.list({ signal: context.signal }), wanted);
  await belljar.tokens.revoke(token.id, { signal: context.signal });
  if (context.output.json) context.output.data({ id: token.id, revoked: true });
  else context.output.say(`${token.name} (${token.id}) revoked`);
}

function findToken(tokens: readonly Token[], wanted: string): Token {
  const byId = tokens.find((token) => token.id === wanted);
  const named = tokens.filter((token) => token.name === wanted);
  const found = byId ?? named[0];
  if (found === undefined)
    throw new BelljarError("TOKEN_NOT_FOUND", `no token is called "${wanted}"`, { token: wanted });
  if (byId === undefined && named.length > 1) {
    throw new BelljarError(
      "TOKEN_NOT_FOUND",
      `${named.length} tokens are called "${wanted}": name one by its id`,
      {
        ids: named.map((token) => token.id),
      },
    );
  }
  return found;
}
