import test from "ava";
import { exitCodeOf, ThalwegError } from "../../ts/base/errors.ts";
import { loadRunConfig, parseRunConfig } from "../../ts/config/load.ts";
import { planRun } from "../../ts/schedule/run_plan.ts";

const minimal = `# a run
name: small
model: { preset: quickstart }
data:
  train: data/text
batch:
  length: 128
  tokens: 1024
schedule:
  lr:
    peak: 4e-3
    warmup: 30 steps
    wsd_s:
      budgets: [300, 600, 1200]
      decay: { fraction: 0.1, of: cumulative, shape: inverse, floor: 0.1 }
`;

const folder =
  (files: Record<string, string>) =>
  async (file: string): Promise<string> =>
    files[file] ?? Promise.reject(new Error(`no ${file}`));

const load = (text: string, overrides: string[] = [], others: Record<string, string> = {}) =>
  loadRunConfig("a.yaml", overrides, folder({ "a.yaml": text, ...others }));

test("a small config is enough, and every other field gets its default", async (t) => {
  const { config, sources } = await load(minimal);
  t.is(config.batch.sequences, 8);
  t.is(config.data.seed, 1);
  t.deepEqual(config.optimizer, { beta1: 0.9, beta2: 0.95, eps: 1e-8, weightDecay: 0.1, clip: 1, groups: [] });
  t.is(config.schedule.lr.peak, 0.004);
  t.is(sources.name, "a.yaml:2");
  t.is(sources["schedule.lr.wsd_s.budgets"], "a.yaml:14");
  t.is(sources["optimizer.beta2"], "default");
});

test("overrides are YAML, win over the file, and say so in the sources", async (t) => {
  const { config, sources } = await load(minimal, [
    "schedule.lr.peak=1e-3",
    "schedule.lr.wsd_s.budgets[1]=700",
    "memory.limit=8GiB",
    "optimizer={beta1: 0.8}",
    "optimizer.groups=[{match: 'kind:norm', lrScale: 2}]",
    "optimizer.groups[0].lrScale=3",
    "seed=7",
  ]);
  t.is(config.schedule.lr.peak, 1e-3);
  t.deepEqual(config.schedule.lr.wsd_s?.budgets, [300, 700, 1200]);
  t.is(config.memory.limit, 8 * 2 ** 30);
  t.is(config.optimizer.beta1, 0.8);
  t.is(config.optimizer.beta2, 0.95);
  t.deepEqual(config.optimizer.groups, [{ match: "kind:norm", lrScale: 3 }]);
  t.is(config.data.seed, 7);
  t.is(sources["schedule.lr.peak"], "override schedule.lr.peak=1e-3");
});

test("an override with another shape replaces the file's shape", async (t) => {
  const { config } = await load(minimal, ["schedule.lr.cosine.steps=500", "batch.sequences=4"]);
  t.is(config.schedule.lr.wsd_s, undefined);
  t.deepEqual(config.schedule.lr.cosine, { steps: 500, floor: 0.1 });
  t.is(config.batch.tokens, 512);
});

test("a config extends another, and each value knows its file", async (t) => {
  const child = "extends: base/b.yaml\nbatch: { sequences: 2 }\nschedule: { lr: { wsd: { steps: 100 } } }\n";
  const { config, sources } = await load(child, [], { "base/b.yaml": minimal });
  t.is(config.batch.tokens, 256);
  t.deepEqual(Object.keys(config.schedule.lr).sort(), ["peak", "warmup", "wsd"]);
  t.is(sources["schedule.lr.peak"], "base/b.yaml:11");
  t.is(sources["batch.sequences"], "a.yaml:2");
});

test("the hash depends on the values alone, not on how they were said", async (t) => {
  const { hash, config } = await load(minimal);
  const lines = minimal.split("\n");
  const reordered = [...lines.slice(8), ...lines.slice(0, 8), "optimizer: { beta1: 0.9 }"].join("\n");
  t.is((await load(reordered)).hash, hash);
  t.is((await load(minimal, ["seed=1"])).hash, hash);
  t.not((await load(minimal, ["seed=2"])).hash, hash);
  t.is(parseRunConfig(JSON.parse(JSON.stringify(config))).hash, hash, "a resolved config resolves to itself");
});

/** `text` is refused with exit code 2 and exactly this message. */
const refused = (
  promise: string,
  text: string,
  message: string,
  overrides: string[] = [],
  others: Record<string, string> = {},
) =>
  test(`refused: ${promise}`, async (t) => {
    const error = await t.throwsAsync(async () => planRun(await load(text, overrides, others)), {
      instanceOf: ThalwegError,
    });
    t.is(error?.message, message);
    t.is(exitCodeOf(error), 2);
  });

refused(
  "an unknown field, with its line and the nearest name",
  minimal.replace("warmup", "warmpu"),
  "a.yaml:12  schedule.lr.warmpu is not a known field. Did you mean warmup?",
);
refused(
  "unknown fields are told alone, each with its line",
  minimal.replace("wsd_s:", "wsd-s:").replace("name:", "nmae:"),
  "a.yaml:13  schedule.lr.wsd-s is not a known field. Did you mean wsd_s?\na.yaml:2  nmae is not a known field. Did you mean name?",
);
refused(
  "a field that resembles none, with the known ones",
  `${minimal}log: { xylophone: 3 }`,
  "a.yaml:16  log.xylophone is not a known field. Known here: every, tensorboard.",
);
refused(
  "an unknown field of an override",
  minimal,
  "override schedule.lr.pek=3  schedule.lr.pek is not a known field. Did you mean peak?",
  ["schedule.lr.pek=3"],
);
refused(
  "a wrong value, with what was found and expected",
  minimal.replace("4e-3", "fast").replace("{ preset: quickstart }", "{ preset: quickstart, tied: 1 }"),
  'a.yaml:3  model.tied is 1; expected true or false.\na.yaml:11  schedule.lr.peak is "fast"; expected a number.',
);
refused(
  "a missing field, with the mapping it belongs to",
  minimal.replace("  train: data/text", "  onEnd: stop"),
  "a.yaml:4  data.train is missing; expected text.",
);
refused(
  "one of a few words",
  `${minimal}precision: fp16`,
  'a.yaml:16  precision is "fp16"; expected one of bf16, fp32.',
);
refused(
  "a model that is neither a preset nor complete",
  minimal.replace("preset: quickstart", "dim: 64, layers: 2"),
  'a.yaml:3  model is {"dim":64,"layers":2}; expected a preset, or all of dim, layers, heads, ffn (missing: heads, ffn).',
);
refused(
  "tokens that are no multiple of the length",
  minimal.replace("1024", "1000"),
  "a.yaml:8  batch.tokens is 1000; expected a multiple of batch.length (128).",
);
refused(
  "two shapes",
  `${minimal}    cosine: {}`,
  "a.yaml:10  schedule.lr must have exactly one of constant, cosine, linear, wsd, wsd_s, cyclic_cosine, trapezoid, one_cycle, inverse_sqrt, power, range_test, phases, table, follow_lr (found cosine and wsd_s).",
);
refused(
  "a schedule that does not fit together, with the line of the culprit",
  minimal.replace("[300, 600, 1200]", "\n        - 300\n        - 200"),
  "a.yaml:16  schedule.lr.wsd_s.budgets[1] is 200 steps, not more than the budget before it (300). Use increasing budgets.",
);
refused(
  "more steps than the schedule has",
  `${minimal}steps: 5000`,
  "a.yaml:16  steps is 5000, but the schedule ends at step 1290. Lengthen the schedule, say `after: stay`, or leave steps out.",
);
refused("text that is not YAML", "name: a\nname: b\n", "a.yaml:2  not valid YAML: Map keys must be unique");
refused("a root that is not a mapping", "- 1\n", "a.yaml:1  the config must be a mapping of fields");
refused("a circle of extends", "extends: b.yaml", "a.yaml  extends makes a circle: a.yaml -> b.yaml -> a.yaml.", [], {
  "b.yaml": "extends: a.yaml",
});
test("an override says no more than it says: a group's learning rate leaves its weight decay alone", async (t) => {
  const { config } = await load(minimal, ["optimizer.groups=[{match: 'kind:norm', lrScale: 2}]"]);
  t.is(config.optimizer.groups[0]?.weightDecayScale, undefined);
});

refused(
  "an override of a field with a dash, as an unknown field",
  minimal,
  "override schedule.lr.wsd-s=3  schedule.lr.wsd-s is not a known field. Did you mean wsd_s?",
  ["schedule.lr.wsd-s=3"],
);
refused("an override without a value", minimal, 'override "seed" is not of the form field.name=value.', ["seed"]);
refused(
  "an override past the end of a list",
  minimal,
  "override schedule.lr.wsd_s.budgets[3]=1  schedule.lr.wsd_s.budgets is a list of 3; 3 is no item of it.",
  ["schedule.lr.wsd_s.budgets[3]=1"],
);
refused(
  "a field named __proto__",
  `${minimal}__proto__: { seed: 3 }`,
  'a.yaml:16  the config has a field named "__proto__"; expected a name.',
);
refused(
  "a group that matches by a broken expression",
  `${minimal}optimizer:\n  groups:\n    - match: "("\n`,
  'a.yaml:18  optimizer.groups[0].match is "("; expected kind:norm, kind:embedding, kind:linear, or a regular expression on parameter names.',
);

test("an alias that holds itself is refused, not followed for ever", async (t) => {
  await t.throwsAsync(load("model: &a { preset: *a }"), { message: /nested deeper|Unresolved alias/ });
});

test("a missing file is named", async (t) => {
  await t.throwsAsync(loadRunConfig("no/such.yaml"), {
    message: /^no\/such\.yaml {2}cannot read the config: there is no such file/,
  });
});
