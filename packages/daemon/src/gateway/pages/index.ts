/** The pages of the gateway: self-contained HTML, without the name of a host, an id or a reason. */
export { bootPage } from "./boot-page.ts";
export { enterPage } from "./enter-page.ts";
export { errorPage } from "./error-page.ts";
export type { Page } from "./layout.ts";
