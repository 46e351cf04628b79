// What results speak of: the commit and the hash of the PTX headers, from git in a checkout or the manifest of a bundle.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ptxHash } from "./conformance.mjs";

/** { commit, ptxHash }; a commit with changes on top ends in "+". */
export function describeSource(root) {
  const manifest = join(root, "manifest.json");
  if (existsSync(manifest)) {
    const { commit, ptxHash } = JSON.parse(readFileSync(manifest, "utf8"));
    return { commit, ptxHash };
  }
  const git = (...args) => spawnSync("git", args, { cwd: root, encoding: "utf8" });
  const head = git("rev-parse", "--short=12", "HEAD");
  const changed = git("status", "--porcelain", "--untracked-files=no").stdout?.trim();
  return { commit: head.status === 0 ? head.stdout.trim() + (changed ? "+" : "") : "unknown", ptxHash: ptxHash(root) };
}
