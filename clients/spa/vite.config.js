import { defineConfig } from "vite";

// The same files are served at any origin, by any server: what differs is in
// config.json, which the page fetches.
export default defineConfig({ build: { target: "es2022", modulePreload: { polyfill: false }, assetsInlineLimit: 0 } });
