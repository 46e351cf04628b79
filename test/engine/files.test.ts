import { access, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Engine, type FileEntry, type Module } from "../../ts/engine/engine.ts";
import { ModuleBuilder, randoms } from "./support.ts";

let engine: Engine;
test.before(async () => {
  engine = await Engine.create({ threads: 2 });
});
test.after.always(() => engine?.dispose());

async function folder(t: ExecutionContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "thalweg-files-"));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

const spec = () =>
  new ModuleBuilder()
    .tensor("param/qkv", "f32", [6, 3])
    .tensor("flat", "f32", [10])
    .tensor("half", "bf16", [2, 2])
    .tensor("io/tokens", "i32", [4])
    .program("double", [["scale", ["flat", "flat"], [2]]])
    .spec();
const entries: FileEntry[] = [
  { name: "q", tensor: "param/qkv", rows: 4 },
  { name: "k", tensor: "param/qkv", rowStart: 4, rows: 1 },
  { name: "v", tensor: "param/qkv", rowStart: 5 },
  { name: "m/w", tensor: "flat", rowStart: 2, rows: 6, shape: [2, 3] },
  { name: "half", tensor: "half" },
  { name: "tokens", tensor: "io/tokens" },
];
const tensors = ["param/qkv", "flat", "half", "io/tokens"];

async function filled(): Promise<Module> {
  const module = await engine.load(spec());
  await module.write("param/qkv", randoms(1, 18));
  await module.write("flat", randoms(2, 10));
  await module.write("half", Uint16Array.of(0x3f80, 0x4000, 0xc040, 0x7f80));
  await module.write("io/tokens", Int32Array.of(1, -2, 3, 2 ** 31 - 1));
  return module;
}

/** A safetensors file from its header and data, as the format says. */
function fileOf(header: unknown, data = new Uint8Array(0)): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const out = new Uint8Array(8 + json.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  out.set(data, 8 + json.length);
  return out;
}

function parse(bytes: Uint8Array): { header: Record<string, Record<string, unknown>>; start: number } {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  return { header: JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))), start: 8 + length };
}

test("a snapshot written and loaded gives the same bits, row slices and shapes included", async (t) => {
  const path = join(await folder(t), "model.tmp");
  const module = await filled();
  const snapshot = await module.snapshot(tensors);
  const { bytes } = await snapshot.writeSafetensors(path, entries, { step: "12", 'qu"ote\n': "é☃" });
  const file = await readFile(path);
  t.is(bytes, file.length);
  const { header, start } = parse(file);
  t.is(start % 8, 0);
  t.deepEqual(header.__metadata__, { step: "12", 'qu"ote\n': "é☃" });
  t.deepEqual(header.k, { dtype: "F32", shape: [1, 3], data_offsets: [48, 60] });
  t.deepEqual(header["m/w"], { dtype: "F32", shape: [2, 3], data_offsets: [72, 96] });
  t.deepEqual(header.half, { dtype: "BF16", shape: [2, 2], data_offsets: [96, 104] });

  const other = await engine.load(spec());
  await other.loadFile(path, entries);
  t.deepEqual(await other.read("param/qkv"), await module.read("param/qkv"));
  t.deepEqual(await other.read("half"), await module.read("half"));
  t.deepEqual(await other.read("io/tokens"), await module.read("io/tokens"));
  const [from, to] = [await module.read("flat"), await other.read("flat")];
  t.deepEqual([...to], [0, 0, ...from.slice(2, 8), 0, 0]);
});

test("a snapshot keeps the values of its moment", async (t) => {
  const path = join(await folder(t), "model.tmp");
  const module = await filled();
  const before = await module.read("flat");
  const snapshot = await module.snapshot(["flat"]);
  await module.play([{ program: "double" }]);
  await snapshot.writeSafetensors(path, [{ name: "flat", tensor: "flat" }]);
  await module.loadFile(path, [{ name: "flat", tensor: "flat" }]);
  t.deepEqual(await module.read("flat"), before);
  snapshot.dispose();
  await t.throwsAsync(snapshot.writeSafetensors(path, []), { code: "DISPOSED" });
});

test("f32 tensors load from BF16 and F16 exactly", async (t) => {
  const path = join(await folder(t), "model.safetensors");
  const header = {
    b: { dtype: "BF16", shape: [3], data_offsets: [0, 6] },
    h: { dtype: "F16", shape: [4], data_offsets: [6, 14] },
  };
  const halves = Uint16Array.of(0x3fc0, 0xc2f7, 0x0001, 0x3c00, 0xc500, 0x0001, 0x7bff);
  await writeFile(path, fileOf(header, new Uint8Array(halves.buffer)));
  const module = await engine.load(spec());
  await module.loadFile(path, [
    { name: "b", tensor: "flat", rows: 3 },
    { name: "h", tensor: "flat", rowStart: 3, rows: 4 },
  ]);
  t.deepEqual([...(await module.read("flat")).slice(0, 7)], [1.5, -123.5, 2 ** -133, 1, -5, 2 ** -24, 65504]);
  const wrong = module.loadFile(path, [{ name: "b", tensor: "io/tokens", rows: 3 }]);
  await t.throwsAsync(wrong, { code: "CORRUPT_CHECKPOINT", message: /tensor b is BF16, expected I32/ });
});

test("damaged files are refused with CORRUPT_CHECKPOINT, the file's name, and nothing changes", async (t) => {
  const directory = await folder(t);
  const path = join(directory, "bad.safetensors");
  const module = await engine.load(spec());
  const a = { dtype: "F32", shape: [10], data_offsets: [0, 40] };
  const data = new Uint8Array(40).fill(63);
  const refused = async (bytes: Uint8Array, message: RegExp, load = [{ name: "a", tensor: "flat" }]) => {
    await writeFile(path, bytes);
    const error = await t.throwsAsync(module.loadFile(path, load), {
      name: "ThalwegError",
      code: "CORRUPT_CHECKPOINT",
      message,
    });
    t.true(error?.message.includes(path));
  };
  await refused(new Uint8Array(5), /too few/);
  await refused(fileOf("{").subarray(0, 9), /too few/);
  await refused(fileOf({ a }, data.subarray(1)), /tensor a spans bytes 0 to 40 of 39/);
  await refused(fileOf({ a }, new Uint8Array(41)), /its header accounts for/);
  await refused(fileOf({ a: { ...a, data_offsets: [4, 44] } }, new Uint8Array(44)), /hole or overlap/);
  await refused(fileOf({ a, b: { ...a, data_offsets: [20, 60] } }, new Uint8Array(60)), /tensor b starts at.*overlap/);
  await refused(fileOf({ a: { ...a, shape: [11] } }, data), /tensor a has 40 bytes, expected 44/);
  await refused(fileOf({ a: { ...a, shape: [2 ** 40, 2 ** 40] } }, data), /impossible shape/);
  await refused(fileOf({ a: { ...a, dtype: "F33" } }, data), /unknown data type F33/);
  await refused(fileOf({ a: { ...a, shape: [5, 2] } }, data), /tensor a has shape \[5, 2\], expected \[10\]/);
  await refused(fileOf({ b: a }, data), /no tensor a/);
  await refused(fileOf({ a: { dtype: "F32" } }, data), /lacks/);
  await refused(fileOf('{"a":', data), /header is damaged/);
  await refused(fileOf(`${JSON.stringify({ a })}x`, data), /text after the end/);
  await refused(fileOf(`{"a":${JSON.stringify(a)},"a":${JSON.stringify(a)}}`, data), /appears twice/);
  await refused(fileOf({ a: { ...a, extra: 1 } }, data), /unknown field extra/);
  const huge = fileOf({ a }, data);
  new DataView(huge.buffer).setBigUint64(0, 2n ** 63n, true);
  await refused(huge, /header claims/);
  // The first entry is fine, the second is not: the whole file is checked before anything is copied.
  await refused(fileOf({ a }, data), /no tensor b/, [
    { name: "a", tensor: "flat" },
    { name: "b", tensor: "half" },
  ]);
  t.deepEqual(await module.read("flat"), new Float32Array(10));
});

test("bytes flipped anywhere in a header never crash: the file loads or is refused", async (t) => {
  const path = join(await folder(t), "flipped.safetensors");
  const seed = Date.now() % 1e6;
  t.log(`seed ${seed}`);
  const module = await filled();
  const snapshot = await module.snapshot(tensors);
  await snapshot.writeSafetensors(path, entries, { step: "1" });
  const whole = await readFile(path);
  const { start } = parse(whole);
  let refusals = 0;
  const noise = randoms(seed, 600);
  for (let i = 0; i < 300; i++) {
    const bytes = new Uint8Array(whole);
    bytes[Math.floor(((noise[2 * i]! + 1) / 2) * start)]! ^= 1 << Math.floor(((noise[2 * i + 1]! + 1) / 2) * 8);
    await writeFile(path, bytes);
    await module.loadFile(path, entries).catch((error) => {
      t.is(error.code, "CORRUPT_CHECKPOINT", error.message);
      refusals++;
    });
  }
  t.true(refusals > 200, `${refusals} of 300 refused`); // flips in names of metadata, or of spaces, may pass
});

test("missing files and full disks are IO_ERROR with the system's words", async (t) => {
  const directory = await folder(t);
  const module = await filled();
  const missing = module.loadFile(join(directory, "none"), [{ name: "flat", tensor: "flat" }]);
  await t.throwsAsync(missing, { code: "IO_ERROR", message: /none: opening failed: No such file/ });
  const snapshot = await module.snapshot(["flat"]);
  const entry = [{ name: "flat", tensor: "flat" }];
  const nowhere = snapshot.writeSafetensors(join(directory, "no", "dir"), entry);
  await t.throwsAsync(nowhere, { code: "IO_ERROR", message: /creating failed: No such file/ });
  await t.throwsAsync(snapshot.writeSafetensors("/dev/full", entry), {
    code: "IO_ERROR",
    message: /No space left on device/,
  });
  await t.notThrowsAsync(access("/dev/full")); // only plain files are taken away after a failure
});

test("file entries outside their tensors, or asked twice, are refused with BAD_INPUT", async (t) => {
  const path = join(await folder(t), "x");
  const module = await filled();
  const snapshot = await module.snapshot(["flat"]);
  const refused = (list: FileEntry[], message: RegExp) =>
    t.throwsAsync(snapshot.writeSafetensors(path, list), { code: "BAD_INPUT", message });
  await refused([{ name: "a", tensor: "flat", rowStart: 5, rows: 6 }], /rows 5 to 11 of tensor flat, which has 10/);
  await refused([{ name: "a", tensor: "flat", shape: [3, 3] }], /shape \[3, 3\].*hold 10 elements/);
  await refused([{ name: "a", tensor: "half" }], /no tensor named half/);
  await refused(
    [
      { name: "a", tensor: "flat" },
      { name: "a", tensor: "flat" },
    ],
    /two file entries are named a/,
  );
  await t.throwsAsync(module.snapshot(["nothing"]), { code: "BAD_INPUT" });
});

test("initial values depend on seed, name and place only", async (t) => {
  const module = await engine.load(
    new ModuleBuilder().tensor("w", "f32", [300, 500]).tensor("u", "f32", [300, 500]).spec(),
  );
  const init = { kind: "truncatedNormal", std: 0.02, seed: 42, name: "model.w" } as const;
  await module.initialize("w", init);
  await module.initialize("u", { ...init, rowStart: 100, rows: 200 });
  const [w, u] = [await module.read("w"), await module.read("u")];
  t.deepEqual(u.slice(100 * 500), w.slice(0, 200 * 500));
  t.true(u.slice(0, 100 * 500).every((v) => v === 0));
  t.true(w.every((v) => Math.abs(v) <= 0.06));
  await module.initialize("u", { ...init, seed: 43 });
  t.notDeepEqual((await module.read("u")).slice(0, 4), w.slice(0, 4));
  await module.initialize("u", { ...init, name: "model.x" });
  t.notDeepEqual((await module.read("u")).slice(0, 4), w.slice(0, 4));
  await module.initialize("u", { kind: "constant", value: 1.5, seed: 0, name: "" });
  t.true((await module.read("u")).every((v) => v === 1.5));
  await t.throwsAsync(module.initialize("u", { ...init, seed: -1 }), { code: "BAD_INPUT" });
});
