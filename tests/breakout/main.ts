/** `npm run breakout [-- --json]`: runs every attack in a sandbox of this machine and prints the score card. */
import { parseArgs } from "node:util";
import { closeArena, openArena } from "./arena.ts";
import type { Attack, Verdict } from "./attack.ts";
import { ATTACKS } from "./attacks.ts";

interface Score extends Verdict {
  readonly name: string;
  readonly wall: string;
}

const { values } = parseArgs({
  options: { json: { type: "boolean", default: false }, only: { type: "string", default: "" } },
});

async function score(attack: Attack, arena: Parameters<Attack["run"]>[0]): Promise<Score> {
  const { name, wall } = attack;
  try {
    return { name, wall, ...(await attack.run(arena)) };
  } catch (error) {
    // An attack that could not be carried out has proved nothing.
    return {
      name,
      wall,
      held: false,
      control: "absent",
      detail: `not carried out: ${String(error)}`,
    };
  }
}

function card(scores: readonly Score[]): string {
  const lines: string[] = [];
  for (const wall of new Set(scores.map((one) => one.wall))) {
    lines.push("", wall);
    for (const { name, held, control, detail } of scores.filter((one) => one.wall === wall)) {
      const note = control === "works" ? "" : "  (this machine has not got it outside either)";
      lines.push(
        `  ${held ? "held  " : "FELL  "} ${name}${note}${held ? "" : `\n         ${detail}`}`,
      );
    }
  }
  const held = scores.filter((one) => one.held).length;
  const proved = scores.filter((one) => one.held && one.control === "works").length;
  lines.push(
    "",
    `${held} of ${scores.length} attacks held off; ${proved} of them get through where there is no wall`,
  );
  return lines.join("\n");
}

await using stack = new AsyncDisposableStack();
const interrupt = () => void stack.disposeAsync().then(() => process.exit(130));
process.once("SIGINT", interrupt).once("SIGTERM", interrupt);
const arena = await openArena(stack);
const scores: Score[] = [];
for (const attack of ATTACKS.filter(({ name, wall }) => `${wall} ${name}`.includes(values.only))) {
  scores.push(await score(attack, arena));
  process.stderr.write(scores.at(-1)?.held === true ? "." : "X");
}
process.stderr.write("\n");
const left = Object.values(await closeArena(arena)).flat();
if (left.length > 0) process.stderr.write(`left behind: ${left.slice(0, 5).join("; ")}\n`);
process.stdout.write(`${values.json ? JSON.stringify(scores, null, 2) : card(scores)}\n`);
process.exitCode = scores.every(({ held }) => held) && left.length === 0 ? 0 : 1;
