/** House rules that no linter states: nothing left for later, nothing silenced, nothing of one person's machine, units in names. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { test } from "node:test";

const PROJECT = join(import.meta.dirname, "..", "..");
const SKIPPED = new Set(["node_modules", ".git", ".foreshift", "histories"]);
/** The rules themselves are written here, and the licence and the lock file are not ours to word. */
const EXEMPT = new Set(["tidy.test.ts", "LICENSE", "package-lock.json"]);

interface Line {
  readonly file: string;
  readonly number: number;
  readonly text: string;
}

const FILES = globSync("**/*.{ts,mjs,js,json,md,yml,yaml,sql,sh}", {
  cwd: PROJECT,
  exclude: (name) => SKIPPED.has(basename(name)),
})
  .filter((file) => !EXEMPT.has(basename(file)))
  .sort();
const LINES: readonly Line[] = FILES.flatMap((file) =>
  readFileSync(join(PROJECT, file), "utf8")
    .split("\n")
    .map((text, index) => ({ file, number: index + 1, text })),
);

function refuse(lines: readonly Line[], pattern: RegExp, why: string): void {
  const found = lines.filter(({ text }) => pattern.test(text));
  const shown = found.map(({ file, number, text }) => `${file}:${number}: ${text.trim()}`).join("\n");
  assert.equal(found.length, 0, `${why}\n${shown}`);
}

const CODE = LINES.filter(({ file }) => /\.(ts|mjs|js)$/.test(file));

test("nothing is left for later", () => {
  refuse(LINES, /\b(TODO|FIXME|XXX|HACK)\b/, "Do it, or write an issue.");
});

test("no check is silenced", () => {
  refuse(CODE, /\bas any\b|\bas unknown as\b/, "Parse it, or give it its type.");
  refuse(CODE, /@ts-(ignore|expect-error|nocheck)|(eslint|oxlint|biome)-(disable|ignore)/, "Mend the code instead.");
});

test("no test is left out or runs alone", () => {
  refuse(CODE, /\b(test|it|describe|suite)\.(only|todo)\(|\bonly: true\b/, "Run every test.");
});

test("nothing names one person's machine", () => {
  refuse(LINES, /(?:^|["'`\s(])\/(home|Users|root)\/\w/, "Use a path relative to the project, or a variable.");
});

test("models and workflows reach for nothing outside", () => {
  const pure = CODE.filter(({ file }) => /^(models|workflows)\//.test(file));
  refuse(pure, /from "node:|import\("node:|\bprocess\.(env|hrtime|pid)\b/, "They get what they need as arguments.");
  const models = pure.filter(({ file }) => file.startsWith("models/"));
  refuse(
    models,
    /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|\bperformance\.now\(|\bset(Timeout|Interval)\(/,
    "A model has no clock.",
  );
});

test("a duration says its unit", () => {
  const models = CODE.filter(({ file }) => file.startsWith("models/"));
  const duration = /\b(\w*(?:timeout|interval|delay|pause|grace|period)\w*)\s*[:=]\s*[\d_]+/i;
  const unit = /(Ms|Seconds|S|Minutes|Hours|Days)(Max|Min)?$|_(MS|S|SECONDS|MINUTES|HOURS|DAYS)(_MAX|_MIN)?$/;
  const unnamed = models.filter(({ text }) => {
    const name = duration.exec(text)?.[1];
    return name !== undefined && !unit.test(name);
  });
  refuse(unnamed, /./, "Put the unit last: timeoutMs, intervalS.");
});

test("a migration is named by its order", () => {
  const migrations = FILES.filter((file) => file.startsWith("migrations/") && file.endsWith(".sql")).map((file) =>
    basename(file),
  );
  for (const name of migrations) assert.match(name, /^\d{4}[-_][a-z0-9_-]+\.sql$/);
  const orders = migrations.map((name) => name.slice(0, 4));
  assert.equal(new Set(orders).size, orders.length, "two migrations of the same order");
});

test("a test that a document names is there, by its file and its title", () => {
  const tests = Map.groupBy(
    FILES.filter((file) => file.endsWith(".test.ts")),
    (file) => basename(file),
  );
  const named = LINES.filter(({ file }) => file.endsWith(".md")).flatMap(({ file, number, text }) =>
    [...text.matchAll(/`(?:[\w/-]*\/)?([\w-]+\.test\.ts)`(?:: ((?:"[^"]+"(?:, )?)+))?/g)].map(([, name = "", titles = ""]) => ({
      where: `${file}:${number}`,
      name,
      titles: [...titles.matchAll(/"([^"]+)"/g)].map(([, title = ""]) => title),
    })),
  );
  assert.ok(named.some(({ titles }) => titles.length > 0));
  for (const { name, titles, where } of named) {
    const files = tests.get(name);
    assert.ok(files !== undefined, `${where}: there is no ${name}`);
    const text = files.map((file) => readFileSync(join(PROJECT, file), "utf8")).join("\n");
    for (const title of titles) assert.ok(text.includes(title), `${where}: ${name} has no "${title}"`);
  }
});
