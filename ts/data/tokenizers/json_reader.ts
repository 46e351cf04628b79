import { ThalwegError } from "../../base/errors.ts";

/** False for a string with half of a surrogate pair: it has no UTF-8. */
export const isWellFormed = (text: string) => !/\p{Surrogate}/u.test(text);

/** A value of a JSON file that knows where it stands, for errors that name file and path. */
export class JsonNode {
  readonly file: string;
  readonly path: string;
  readonly value: unknown;

  constructor(file: string, path: string, value: unknown) {
    this.file = file;
    this.path = path;
    this.value = value;
  }

  /** @throws ThalwegError BAD_INPUT when the text is not JSON */
  static parse(text: string, file: string): JsonNode {
    try {
      return new JsonNode(file, "", JSON.parse(text));
    } catch (cause) {
      throw new ThalwegError("BAD_INPUT", `${file} is not JSON: ${(cause as Error).message}`, { cause });
    }
  }

  /** @throws ThalwegError BAD_INPUT always: what was found here, and what is expected */
  refuse(what: string): never {
    throw new ThalwegError("BAD_INPUT", `${this.file}: ${this.path || "the file"} ${what}`);
  }

  get missing(): boolean {
    return this.value === undefined || this.value === null;
  }

  /** A member; undefined inside when there is none. */
  at(key: string): JsonNode {
    const own = Object.hasOwn(this.object(), key) ? (this.value as Record<string, unknown>)[key] : undefined;
    return new JsonNode(this.file, this.path === "" ? key : `${this.path}.${key}`, own);
  }

  /** The object here, with no other members than those named. */
  only(...keys: string[]): this {
    for (const key of Object.keys(this.object()))
      if (!keys.includes(key)) this.at(key).refuse(`is not known; expected one of ${keys.join(", ")}`);
    return this;
  }

  object(): Record<string, unknown> {
    const { value } = this;
    if (typeof value !== "object" || value === null || Array.isArray(value)) this.wrong("an object");
    return value as Record<string, unknown>;
  }

  items(): JsonNode[] {
    if (!Array.isArray(this.value)) this.wrong("an array");
    return (this.value as unknown[]).map((item, i) => new JsonNode(this.file, `${this.path}[${i}]`, item));
  }

  string(): string {
    if (typeof this.value !== "string") this.wrong("a string");
    if (!isWellFormed(this.value as string)) this.refuse("holds a lone surrogate");
    return this.value as string;
  }

  boolean(): boolean {
    if (typeof this.value !== "boolean") this.wrong("true or false");
    return this.value as boolean;
  }

  /** A whole number from 0 to 2^30. */
  whole(): number {
    const { value } = this;
    if (!(Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 30))
      this.wrong("a whole number");
    return value as number;
  }

  private wrong(expected: string): never {
    const text = JSON.stringify(this.value) ?? "missing";
    this.refuse(`is ${text.length > 60 ? `${text.slice(0, 60)}...` : text}, expected ${expected}`);
  }
}
