import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import type { OpenedPreview } from "@belljar/protocol";
import { type Browser, chromium, type Page } from "playwright-core";
import { expect, test as base } from "./fixture.ts";
import { run } from "./support/child.ts";
import { findProgram, REPOSITORY, until } from "./support/machine.ts";
import { previewHost } from "./support/preview.ts";

const PORT = 5173;
const EXAMPLE = path.join(REPOSITORY, "examples", "vite-react");
const APP_DIRECTORY = "/home/user/app";
const VITE = [
  "node",
  "node_modules/vite/bin/vite.js",
  "--host",
  "127.0.0.1",
  "--port",
  String(PORT),
  "--strictPort",
];
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

interface Demo {
  readonly id: string;
  readonly url: string;
}

/** The Vite + React example in a sandbox whose start command is its dev server, and a browser. */
const test = base.extend<{ browser: Browser; demo: Demo; page: Page }>({
  browser: [
    // eslint-disable-next-line no-empty-pattern -- vitest reads a fixture's needs from this pattern
    async ({}, use) => {
      const executablePath = findProgram("chromium") ?? findProgram("google-chrome") ?? "chromium";
      const browser = await chromium.launch({ executablePath, args: FLAGS });
      await use(browser);
      await browser.close();
    },
    { scope: "file" },
  ],
  demo: [
    async ({ daemon }, use) => {
      if (!existsSync(path.join(EXAMPLE, "node_modules", "vite"))) {
        const installed = await run(["npm", "ci", "--no-audit", "--no-fund"], {
          cwd: EXAMPLE,
          timeoutMs: 300_000,
        });
        expect(installed.code, installed.stderr).toBe(0);
      }
      const wait = `until [ -e ready ]; do sleep 0.05; done; exec "$@"`;
      const { id } = await daemon.api.create({
        ports: [PORT],
        start: {
          command: [
            "/bin/sh",
            "-c",
            `mkdir -p ${APP_DIRECTORY}; cd ${APP_DIRECTORY}; ${wait}`,
            "vite",
            ...VITE,
          ],
        },
      });
      daemon.sandboxIds.add(id);
      const archive = path.join(daemon.dataDir, "..", `${id}.tar`);
      expect((await run(["tar", "-C", EXAMPLE, "-cf", archive, "."])).code).toBe(0);
      await daemon.api.write(id, "/home/user/app.tar", readFileSync(archive));
      await run(["rm", archive]);
      const unpacked = await daemon.api.exec(
        id,
        `mkdir -p ${APP_DIRECTORY} && cd ${APP_DIRECTORY} && tar xf ../app.tar --no-same-owner && rm ../app.tar && touch ready`,
      );
      expect(unpacked.stderr).toBe("");
      await use({ id, url: `http://${previewHost(id, PORT, daemon.port)}/` });
    },
    { scope: "file" },
  ],
  page: async ({ browser }, use) => {
    const context = await browser.newContext();
    await use(await context.newPage());
    await context.close();
  },
});

/** The example's own script: neither the sign-in page nor the boot page has it. */
const APP_SCRIPT = 'script[src*="/src/main"]';

/** Waits over whatever navigations the sign-in and the boot page make. */
async function appShown(page: Page): Promise<void> {
  await page.locator(APP_SCRIPT).first().waitFor({ state: "attached", timeout: 60_000 });
}

async function open(
  page: Page,
  demo: Demo,
  api: { json<V>(method: string, path: string): Promise<V> },
): Promise<void> {
  const { url } = await api.json<OpenedPreview>(
    "POST",
    `/v1/sandboxes/${demo.id}/previews/${PORT}/open`,
  );
  await page.goto(url);
  await page.waitForSelector("h1", { timeout: 60_000 });
}

test("a stranger's browser sees a sign-in page, and wakes nothing", async ({ api, demo, page }) => {
  await api.move(demo.id, "stop");
  const response = await page.goto(demo.url);
  expect(response?.status()).toBeGreaterThanOrEqual(400);
  expect(await page.locator("h1").count()).toBeGreaterThan(0);
  await page.waitForTimeout(1000);
  expect((await api.get(demo.id)).state).toBe("stopped");
});

test("the owner's one-time URL shows the app, leaves no code in the address, and works once", async ({
  api,
  browser,
  demo,
  page,
}) => {
  const { url } = await api.json<OpenedPreview>(
    "POST",
    `/v1/sandboxes/${demo.id}/previews/${PORT}/open`,
  );
  await page.goto(url);
  await page.waitForSelector("h1", { timeout: 60_000 });
  await appShown(page);
  expect(new URL(page.url()).hash).toBe("");
  const cookies = await page.context().cookies();
  expect(cookies.filter(({ httpOnly }) => httpOnly).length).toBeGreaterThan(0);
  const stranger = await browser.newContext();
  const second = await stranger.newPage();
  await second.goto(url);
  await second.waitForTimeout(1000);
  expect(await second.locator(APP_SCRIPT).count()).toBe(0);
  await stranger.close();
});

test("an edit inside the sandbox updates the open page without a reload", async ({
  api,
  demo,
  page,
}) => {
  await open(page, demo, api);
  await appShown(page);
  await page.evaluate(() => Reflect.set(globalThis, "stillHere", true));
  const before = (await api.read(demo.id, `${APP_DIRECTORY}/src/App.tsx`)).toString();
  const marker = "Edited while you watch";
  const after = before.replace(/<h1([^>]*)>[^<]*/, `<h1$1>${marker}`);
  expect(after).not.toBe(before);
  await api.write(demo.id, `${APP_DIRECTORY}/src/App.tsx`, after);
  await page.getByText(marker).waitFor({ timeout: 20_000 });
  expect(await page.evaluate(() => Reflect.get(globalThis, "stillHere"))).toBe(true);
  await api.write(demo.id, `${APP_DIRECTORY}/src/App.tsx`, before);
});

test("stopping the sandbox and reloading the page brings it back", async ({ api, demo, page }) => {
  await open(page, demo, api);
  await appShown(page);
  const heading = await page.locator("h1").first().textContent();
  expect((await api.move(demo.id, "stop")).state).toBe("stopped");
  await page.reload();
  await until(
    "the app is back",
    async () =>
      (await page
        .locator("h1")
        .first()
        .textContent()
        .catch(() => "")) === heading,
    { timeoutMs: 60_000 },
  );
  expect((await api.get(demo.id)).state).toBe("running");
});

test("a frozen sandbox's page comes back at once", async ({ api, demo, page }) => {
  await open(page, demo, api);
  await appShown(page);
  expect((await api.move(demo.id, "freeze")).state).toBe("frozen");
  await page.reload();
  await appShown(page);
  expect((await api.get(demo.id)).state).toBe("running");
});
