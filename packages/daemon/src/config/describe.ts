import { configKeys } from "./keys.ts";
import type { ConfigOrigin, LoadedConfig } from "./load.ts";
import { SECRET_KEYS } from "./schema.ts";

/** One line of `belljar config show`. */
export interface ShownKey {
  key: string;
  value: unknown;
  origin: ConfigOrigin;
}

/** Each key with its value in force and where that comes from; secrets are masked. */
export function showConfig(loaded: LoadedConfig): ShownKey[] {
  return configKeys().map(({ key, path }) => {
    const origin = loaded.origins.get(key) ?? "default";
    if (SECRET_KEYS.has(key)) return { key, value: loaded.secrets.tokens.map(String), origin };
    let value: unknown = loaded.config;
    for (const name of path)
      value = typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;
    return { key, value, origin };
  });
}

/** The reference page of the configuration, in Markdown. */
export function configReference(): string {
  const lines = [
    "# Configuration",
    "",
    "Flags win over the environment, the environment over the file (`--config`), the file over the defaults.",
    "A key `section.name` is the flag `--section.name VALUE`; lists are separated by commas; `null` is written `null`.",
    "Unknown keys, malformed values and half pairs stop the daemon at its start, all of them named at once.",
    "",
    "| key | default | environment | what it is |",
    "|---|---|---|---|",
  ];
  for (const key of configKeys()) {
    const fallback =
      key.defaultValue === undefined ? "see right" : `\`${JSON.stringify(key.defaultValue)}\``;
    const choices =
      key.choices.length > 0 ? ` One of ${key.choices.map((one) => `\`${one}\``).join(", ")}.` : "";
    lines.push(`| \`${key.key}\` | ${fallback} | \`${key.env}\` | ${key.description}${choices} |`);
  }
  return `${lines.join("\n")}\n`;
}
