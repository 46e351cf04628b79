import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { exitCodeOf, fileReason, ThalwegError } from "../../ts/base/errors.ts";
import { writeFileAtomic } from "../../ts/base/files.ts";
import { commandLine, quoted } from "../../ts/base/shell.ts";

const folder = mkdtempSync(join(tmpdir(), "thalweg-errors-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
const caught = (act: () => void): unknown => {
  try {
    act();
  } catch (error) {
    return error;
  }
  return null;
};

test("what a file system refuses is said in words: exit 2 for what was named, 1 for a disk", (t) => {
  const file = join(folder, "file");
  writeFileSync(file, "");
  const refused: [() => void, RegExp][] = [
    [() => readFileSync(join(folder, "nowhere")), /no such file/],
    [() => readFileSync(folder), /a folder/],
    [() => mkdirSync(join(file, "below")), /part of the path is a file/],
    [() => mkdirSync(file), /in the way/],
  ];
  for (const [act, words] of refused) {
    const error = caught(act);
    t.regex(fileReason(error)!, words);
    t.is(exitCodeOf(error), 2);
  }
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC", syscall: "write" });
  t.deepEqual([fileReason(full), exitCodeOf(full)], ["the disk is full", 1]);
});

test("an error that is no file system's has no such words: a program that is missing, our own, any other", (t) => {
  const missing = Object.assign(new Error("spawn sbatch ENOENT"), { code: "ENOENT", syscall: "spawn sbatch" });
  for (const error of [missing, new ThalwegError("BAD_INPUT", "x"), new TypeError("x"), null, "ENOENT"])
    t.is(fileReason(error), null);
  t.is(exitCodeOf(missing), 1);
});

test("a file that cannot be written is named as it was asked for, not by its temporary name, and nothing is left", async (t) => {
  const path = join(folder, "missing", "page.html");
  const error = (await writeFileAtomic(path, "x").catch((e) => e)) as NodeJS.ErrnoException;
  t.deepEqual([error.code, error.path], ["ENOENT", path]);
  mkdirSync(join(folder, "taken"));
  await t.throwsAsync(writeFileAtomic(join(folder, "taken"), "x"));
  t.deepEqual(
    readdirSync(folder).filter((name) => name.includes("tmp")),
    [],
  );
});

test("a command line is read back by a shell as its words", (t) => {
  t.is(commandLine(["train", "a.yaml", "lr={peak: 1}", "it's"]), "train a.yaml 'lr={peak: 1}' 'it'\\''s'");
  t.is(quoted(""), "''");
});
