import { createHash, randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";

/** Another name of standard input, for commands that read files. */
export const standardInputPath = "/dev/stdin";

/** Makes what was written to a file or directory survive a loss of power. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes all of `bytes` at `position`: a disk that fills up may take a part first, and give its error only after that. */
export async function writeAll(file: Pick<FileHandle, "write">, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; )
    done += (await file.write(bytes, done, bytes.length - done, position + done)).bytesWritten;
}

/** Writes a whole file and syncs it. The file is not atomic: a crash may leave a part of it. */
export async function writeDurable(path: string, content: string | Uint8Array): Promise<void> {
  const handle = await open(path, "w");
  try {
    await handle.writeFile(content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Replaces a file so that a reader, at any moment and after any crash, sees the old content or the new, never a part:
 * temporary name in the same directory, sync, rename, sync of the directory. The temporary file does not outlive an error.
 */
export async function writeFileAtomic(path: string, content: string | Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    await writeDurable(temporary, content);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    const failed = error as NodeJS.ErrnoException;
    if (failed.path === temporary) failed.path = path; // the name that people know
    throw error;
  }
  await syncPath(dirname(path));
}

export interface FileDigest {
  bytes: number;
  /** Lower-case hexadecimal. */
  sha256: string;
}

const pieceBytes = 1 << 20;

/**
 * Size and SHA-256 of a file, read in pieces so that the event loop stays free: one piece is read while the one before it
 * is hashed, into the same two buffers throughout.
 */
export async function digestFile(path: string): Promise<FileDigest> {
  const hash = createHash("sha256");
  let bytes = 0;
  const handle = await open(path, "r");
  try {
    const read = (into: Buffer) => handle.read(into, 0, into.length, null);
    let [piece, next] = [Buffer.allocUnsafeSlow(pieceBytes), Buffer.allocUnsafeSlow(pieceBytes)];
    for (let reading = read(piece); ; ) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) break;
      reading = read(next);
      hash.update(piece.subarray(0, bytesRead));
      bytes += bytesRead;
      [piece, next] = [next, piece];
    }
  } finally {
    await handle.close();
  }
  return { bytes, sha256: hash.digest("hex") };
}
