import { ThalwegError } from "../../base/errors.ts";

/** Bytes of the largest window that is unpacked: the limit of the `zstd` tool too, unless it is told of more. */
const largestWindow = 2 ** 27;
const frameMagic = 0xfd2fb528;
/** The last four bits of its magic number are free. */
const skippableMagic = 0x184d2a50;
const runBlock = 1;

/** Bytes that are wanted to look at, or to pass over. */
type Want = { readonly look: number } | { readonly pass: number };

/**
 * Walks along the frames of a zstd stream (RFC 8878, section 3.1.1) ahead of the decoder, so that no header can make it ask for
 * more memory than a window of 128 MiB.
 */
export class ZstdFrames {
  private readonly walk: Generator<Want, never, Buffer>;
  private want: Want;
  /** The beginning of what is looked at, when its rest is in the next chunk. */
  private begun: Buffer = Buffer.alloc(0);

  /** @param file as errors name it */
  constructor(file: string) {
    this.walk = frames(file);
    this.want = this.walk.next().value;
  }

  /** The next bytes of the stream. @throws BAD_INPUT for a window too large; CORRUPT_DATA where a frame should begin and does not */
  see(chunk: Buffer): void {
    for (let rest = chunk; rest.length > 0; ) {
      const wanted = "look" in this.want ? this.want.look - this.begun.length : this.want.pass;
      const found = rest.subarray(0, wanted);
      rest = rest.subarray(wanted);
      if ("look" in this.want) this.begun = Buffer.concat([this.begun, found]);
      if (found.length < wanted) {
        if ("pass" in this.want) this.want = { pass: wanted - found.length };
        return;
      }
      const whole = this.begun;
      this.begun = Buffer.alloc(0);
      this.want = this.walk.next(whole).value;
    }
  }
}

function* frames(file: string): Generator<Want, never, Buffer> {
  for (;;) {
    const magic = (yield { look: 4 }).readUInt32LE();
    if (magic - (magic % 16) === skippableMagic) {
      yield { pass: (yield { look: 4 }).readUInt32LE() };
      continue;
    }
    if (magic !== frameMagic)
      throw new ThalwegError(
        "CORRUPT_DATA",
        `${file} is truncated or damaged: a zstd frame should begin where none does. Fetch it again, then repeat the command: it goes on from where it was.`,
      );
    const descriptor = (yield { look: 1 })[0]!;
    const layout = headerLayout(descriptor);
    const window = windowOf(yield { look: layout.bytes }, layout);
    if (window > largestWindow) throw tooLarge(file, window);
    for (let last = false; !last; ) {
      const block = (yield { look: 3 }).readUIntLE(0, 3);
      last = block % 2 === 1;
      yield { pass: ((block >> 1) & 3) === runBlock ? 1 : block >> 3 };
    }
    const checksum = (descriptor >> 2) & 1;
    yield { pass: 4 * checksum };
  }
}

interface HeaderLayout {
  /** Of the header after its descriptor. */
  readonly bytes: number;
  /** The window is the whole content. */
  readonly single: boolean;
  /** Of the content's size at the header's end. */
  readonly sizeBytes: number;
}

function headerLayout(descriptor: number): HeaderLayout {
  const single = ((descriptor >> 5) & 1) === 1;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!;
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3]!;
  return { bytes: (single ? 0 : 1) + dictionaryBytes + sizeBytes, single, sizeBytes };
}

/** Bytes of the window that a frame needs. */
function windowOf(header: Buffer, { bytes, single, sizeBytes }: HeaderLayout): number {
  if (!single) {
    const base = 2 ** (10 + (header[0]! >> 3));
    return base + (base / 8) * (header[0]! & 7);
  }
  const at = bytes - sizeBytes;
  if (sizeBytes === 8) return Number(header.readBigUInt64LE(at));
  return header.readUIntLE(at, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
}

function tooLarge(file: string, window: number): ThalwegError {
  return new ThalwegError(
    "BAD_INPUT",
    `${file} asks for a window of ${Math.ceil(window / 2 ** 20)} MiB, more than ${largestWindow / 2 ** 20} MiB: unpack it with \`zstd -d --long=31\` and pack it again without --long (if that fails, it is damaged: fetch it again).`,
  );
}
