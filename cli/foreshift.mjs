#!/usr/bin/env node
import { boot } from "../setup/bootstrap.mjs";

await boot("cli/main.ts", process.argv.slice(2));
