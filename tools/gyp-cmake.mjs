// What binding.gyp and tools/gyp-shim.sh run: builds with CMake (in out/native, kept between builds, outside the build/
// that node-gyp wipes) and copies the addon to the folder gyp names. Arguments: product folder, architecture.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync } from "node:fs";
import { arch } from "node:os";
import { join, resolve } from "node:path";

const root = join(import.meta.dirname, "..");
const product = resolve(process.argv[2] ?? join(root, "build/Release"));
const wanted = process.argv[3] ?? arch();
if (wanted !== arch()) {
  console.error(
    `error: asked for ${wanted}, but this machine is ${arch()}; thalweg is built on the machine it is for.`,
  );
  process.exit(1);
}

const build = spawnSync(process.execPath, [join(root, "tools/build-native.mjs")], { cwd: root, stdio: "inherit" });
if (build.status !== 0) process.exit(build.status ?? 1);
const built = join(root, "build/Release/thalweg.node");
if (product !== join(root, "build/Release")) {
  mkdirSync(product, { recursive: true });
  copyFileSync(built, join(product, "thalweg.node"));
}
