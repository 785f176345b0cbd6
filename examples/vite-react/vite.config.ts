import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Nothing here is for Belljar: a preview needs no setting of the dev server's.
export default defineConfig({ plugins: [react()] });
