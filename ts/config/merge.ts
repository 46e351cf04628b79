import { ConfigError, type ConfigPath, formatPath } from "./errors.ts";
import { isMapping, type Layer, type Override } from "./layer.ts";
import { cycleLayouts, scheduleShapes } from "./schedule_schema.ts";

/** Fields of which only one may be said; a later layer that says one takes back what an earlier layer said instead. */
const alternatives: { at: RegExp; fields: readonly string[] }[] = [
  { at: /^batch$/, fields: ["sequences", "tokens"] },
  { at: /^schedule\.\w+$/, fields: scheduleShapes },
  { at: /^schedule\.\w+\.(wsd_s|cyclic_cosine)$/, fields: cycleLayouts },
  { at: /^schedule\..*\.decay$/, fields: ["fraction", "steps"] },
];

/** Layers laid over one another: what was said, and where it was said last. */
export class Merged {
  readonly data: Record<string, unknown> = {};
  readonly origins = new Map<string, string>();

  /** Lays a file over what stands: mappings are merged, everything else replaced. */
  add(layer: Layer): void {
    this.#merge(this.data, layer.data, [], (path) => layer.origins.get(formatPath(path)) ?? "");
  }

  /** Lays one override over what stands. Throws ConfigError when it points past the end of a list. */
  override({ path, value, text }: Override): void {
    const origin = `override ${text}`;
    const lists = path.findIndex((_, i) => Array.isArray(this.#at(path.slice(0, i))));
    if (lists < 0) {
      const whole = path.reduceRight<unknown>((inner, part) => ({ [part]: inner }), value) as Record<string, unknown>;
      this.#merge(this.data, whole, [], () => origin);
      return;
    }
    let container = this.#at(path.slice(0, lists)) as Record<string | number, unknown>;
    for (const [i, part] of path.entries()) {
      if (i < lists) continue;
      if (Array.isArray(container) && !(typeof part === "number" && part < container.length))
        throw new ConfigError(
          path,
          `${formatPath(path.slice(0, i))} is a list of ${container.length}; ${part} is no item of it.`,
          origin,
        );
      if (i === path.length - 1) container[part] = value;
      else if (isMapping(container[part]) || Array.isArray(container[part]))
        container = container[part] as typeof container;
      else container = (container[part] = {}) as typeof container;
    }
    this.#record(path, value, () => origin);
  }

  /** Where a value was said, or the nearest thing around it that was. */
  locate(path: ConfigPath): string | undefined {
    for (let length = path.length; length > 0; length--) {
      const origin = this.origins.get(formatPath(path.slice(0, length)));
      if (origin) return origin;
    }
    return undefined;
  }

  #at(path: ConfigPath): unknown {
    let value: unknown = this.data;
    for (const part of path) {
      if (typeof value !== "object" || value === null || !Object.hasOwn(value, part)) return undefined;
      value = (value as Record<string | number, unknown>)[part];
    }
    return value;
  }

  #merge(
    target: Record<string, unknown>,
    source: Record<string, unknown>,
    path: ConfigPath,
    originOf: (path: ConfigPath) => string,
  ): void {
    for (const { at, fields } of alternatives) {
      if (!at.test(formatPath(path)) || !fields.some((field) => Object.hasOwn(source, field))) continue;
      for (const field of fields) if (!Object.hasOwn(source, field)) delete target[field];
    }
    for (const [key, value] of Object.entries(source)) {
      const own = [...path, key];
      if (isMapping(value)) {
        if (!isMapping(target[key])) target[key] = {};
        this.origins.set(formatPath(own), originOf(own));
        this.#merge(target[key] as Record<string, unknown>, value, own, originOf);
      } else {
        target[key] = structuredClone(value);
        this.#record(own, value, originOf);
      }
    }
  }

  /** Notes the origin of a value and of everything in it. */
  #record(path: ConfigPath, value: unknown, originOf: (path: ConfigPath) => string): void {
    this.origins.set(formatPath(path), originOf(path));
    if (Array.isArray(value)) for (const [i, item] of value.entries()) this.#record([...path, i], item, originOf);
    else if (isMapping(value))
      for (const [key, item] of Object.entries(value)) this.#record([...path, key], item, originOf);
  }
}
