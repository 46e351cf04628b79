import test from "ava";
import { writeAll } from "../../ts/base/files.ts";

test("a write that takes a part first is carried on to its end, at its place", async (t) => {
  const disk = Buffer.alloc(20);
  const file = {
    write: async (bytes: Uint8Array, from: number, count: number, at: number) => {
      const bytesWritten = Math.min(3, count);
      disk.set(bytes.subarray(from, from + bytesWritten), at);
      return { bytesWritten, buffer: bytes };
    },
  };
  await writeAll(file as never, Buffer.from("0123456789"), 5);
  t.is(disk.toString("latin1"), "\0\0\0\0\x000123456789\0\0\0\0\0");
});
