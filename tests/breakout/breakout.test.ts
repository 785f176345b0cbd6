import { expect, test as base } from "vitest";
import { ATTACKS } from "./attacks.ts";
import { type Arena, closeArena, openArena } from "./arena.ts";

const test = base.extend<{ arena: Arena }>({
  arena: [
    // eslint-disable-next-line no-empty-pattern -- vitest reads a fixture's needs from this pattern
    async ({}, use) => {
      await using stack = new AsyncDisposableStack();
      const arena = await openArena(stack);
      await use(arena);
      expect(await closeArena(arena)).toEqual({
        processes: [],
        mounts: [],
        cgroups: [],
        sockets: [],
      });
    },
    { scope: "file" },
  ],
});

test.for(ATTACKS.map((attack) => ({ attack, name: attack.name, wall: attack.wall })))(
  "nobody inside can $name",
  async ({ attack }, { arena }) => {
    const { held, detail } = await attack.run(arena);
    expect(held, detail).toBe(true);
  },
);

test("most probes get through where there is no wall, so a refusal means something", async ({
  arena,
}) => {
  const verdicts = await Promise.all(
    ATTACKS.filter(({ wall }) => wall === "kernel").map((attack) => attack.run(arena)),
  );
  const works = verdicts.filter(({ control }) => control === "works").length;
  expect(works).toBeGreaterThan(verdicts.length * 0.8);
});
