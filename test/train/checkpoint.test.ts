import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { exitCodeOf } from "../../ts/base/errors.ts";
import { publishCheckpoint } from "../../ts/train/checkpoint.ts";
import {
  cleanTemporary,
  listCheckpoints,
  newestCheckpoint,
  rotateCheckpoints,
  supersedeAfter,
} from "../../ts/train/checkpoint_folder.ts";
import { readCheckpoint } from "../../ts/train/checkpoint_verify.ts";
import type { Occasion } from "../../ts/train/records.ts";
import { fakeState } from "./support/states.ts";

async function folder(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "thalweg-checkpoint-"));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

const files = { "model.safetensors": new Uint8Array(4096).fill(7), "config.json": "{}\n" };

const save = (directory: string, step: number, occasion: Occasion = "periodic") =>
  publishCheckpoint(directory, fakeState({ step, occasion }), files);

test("a published checkpoint reads back whole, with its state and the sum of its bytes", async (t) => {
  const directory = await folder(t);
  const { path, bytes } = await save(directory, 12500, "pre-decay");
  t.true(path.endsWith("step-00012500"));
  const read = await readCheckpoint(path);
  t.deepEqual(read.state, fakeState({ step: 12500, occasion: "pre-decay" }));
  t.is(read.bytes, bytes);
  t.deepEqual((await readdir(path)).sort(), ["config.json", "manifest.json", "model.safetensors", "state.json"]);
  t.deepEqual(await readdir(directory), ["step-00012500"]);
});

const damages: Record<string, { file: string; reason: RegExp; damage: (path: string) => Promise<void> }> = {
  "a truncated tensor file": {
    file: "model.safetensors",
    reason: /4000 bytes, expected 4096/,
    damage: (path) => truncate(join(path, "model.safetensors"), 4000),
  },
  "a flipped bit in a tensor file": {
    file: "model.safetensors",
    reason: /SHA-256/,
    damage: (path) => flip(join(path, "model.safetensors"), 2049),
  },
  "a flipped bit in state.json": {
    file: "state.json",
    reason: /SHA-256/,
    damage: (path) => flip(join(path, "state.json"), 20),
  },
  "a flipped bit in a digest of manifest.json": {
    file: "manifest.json",
    reason: /own digest/,
    damage: async (path) => {
      const at = (await readFile(join(path, "manifest.json"), "utf8")).indexOf('"sha256"') + 14;
      await flip(join(path, "manifest.json"), at);
    },
  },
  "a truncated manifest.json": {
    file: "manifest.json",
    reason: /not JSON/,
    damage: (path) => truncate(join(path, "manifest.json"), 100),
  },
  "a removed file": {
    file: "config.json",
    reason: /is missing/,
    damage: (path) => rm(join(path, "config.json")),
  },
  "a removed manifest.json": {
    file: "manifest.json",
    reason: /not a Thalweg checkpoint/,
    damage: (path) => rm(join(path, "manifest.json")),
  },
  "a foreign file": {
    file: "pytorch_model.bin",
    reason: /foreign/,
    damage: (path) => writeFile(join(path, "pytorch_model.bin"), "x"),
  },
  "a manifest of something else": {
    file: "manifest.json",
    reason: /not a Thalweg manifest/,
    damage: (path) => writeFile(join(path, "manifest.json"), '{"name":"app"}'),
  },
};

/** Flips the lowest bit of one byte; hexadecimal digits stay printable. */
async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at]! ^= 1;
  await writeFile(path, bytes);
}

for (const [name, { file, reason, damage }] of Object.entries(damages)) {
  test(`${name} is refused with exit code 5, naming ${file}`, async (t) => {
    const directory = await folder(t);
    const { path } = await save(directory, 10);
    await damage(path);
    const error = await t.throwsAsync(() => readCheckpoint(path), { message: reason });
    t.is(exitCodeOf(error), 5);
    t.true(error!.message.includes(join(path, file)));
    await t.throwsAsync(() => newestCheckpoint(directory), { message: reason });
  });
}

test("a torn temporary folder is never taken for a checkpoint and is removed at the next start", async (t) => {
  const directory = await folder(t);
  await save(directory, 10);
  const torn = join(directory, ".writing-step-00000020-1-abcdef");
  await mkdir(torn);
  await writeFile(join(torn, "model.safetensors"), "half");
  t.is((await newestCheckpoint(directory))!.state.step, 10);
  t.is(await cleanTemporary(directory), 1);
  t.deepEqual(await readdir(directory), ["step-00000010"]);
});

test("a writer that fails leaves no trace and everything saved before", async (t) => {
  const directory = await folder(t);
  await save(directory, 10);
  const failing = { ...files, "optimizer.safetensors": () => Promise.reject(new Error("ENOSPC: no space left")) };
  await t.throwsAsync(() => publishCheckpoint(directory, fakeState({ step: 20 }), failing), { message: /ENOSPC/ });
  t.deepEqual(await readdir(directory), ["step-00000010"]);
  t.is((await newestCheckpoint(directory))!.state.step, 10);
});

test("an existing checkpoint is never overwritten", async (t) => {
  const directory = await folder(t);
  await save(directory, 10);
  await t.throwsAsync(() => save(directory, 10), { message: /never overwritten/ });
  t.is((await readCheckpoint(join(directory, "step-00000010"))).state.step, 10);
});

test("rotation keeps the newest regular checkpoints and every pinned one", async (t) => {
  const directory = await folder(t);
  const occasions: Occasion[] = ["periodic", "pre-decay", "periodic", "signal", "post-decay", "periodic", "final"];
  for (const [i, occasion] of occasions.entries()) await save(directory, (i + 1) * 10, occasion);
  await rotateCheckpoints(directory, 2);
  t.deepEqual(
    (await listCheckpoints(directory)).map((c) => c.step),
    [20, 40, 50, 60, 70],
  );
  t.deepEqual(
    (await readdir(directory)).filter((n) => n.startsWith(".")),
    [],
  );
});

test("rotation leaves a damaged checkpoint for its owner to judge", async (t) => {
  const directory = await folder(t);
  for (const step of [10, 20, 30]) await save(directory, step);
  await rm(join(directory, "step-00000010", "manifest.json"));
  await rotateCheckpoints(directory, 1);
  t.deepEqual(
    (await listCheckpoints(directory)).map((c) => c.step),
    [10, 30],
  );
});

test("going on from an older checkpoint sets the later ones aside without deleting them", async (t) => {
  const directory = await folder(t);
  for (const step of [10, 20, 30]) await save(directory, step);
  const moved = await supersedeAfter(directory, 10);
  t.is(moved.length, 2);
  t.true(moved.every((path) => existsSync(join(path, "manifest.json"))));
  t.is((await newestCheckpoint(directory))!.state.step, 10);
});

test("what cannot be a checkpoint is a matter of the command line: nothing, a file, a run's directory, whose newest is named", async (t) => {
  const run = await folder(t);
  const named = (message: RegExp) => ({ code: "BAD_OPTION", message });
  await t.throwsAsync(readCheckpoint(join(run, "nowhere")), named(/nowhere does not exist/));
  await writeFile(join(run, "file"), "");
  await t.throwsAsync(readCheckpoint(join(run, "file")), named(/file is a file/));
  await mkdir(join(run, "checkpoints", ".writing-step-00000009-1-a"), { recursive: true });
  await t.throwsAsync(readCheckpoint(run), named(/is a run directory, which has no checkpoint yet/));
  await save(join(run, "checkpoints"), 3);
  await save(join(run, "checkpoints"), 20);
  await t.throwsAsync(readCheckpoint(run), named(/such as .*checkpoints\/step-00000020\.$/));
});
