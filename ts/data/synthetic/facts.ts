import { ThalwegError } from "../../base/errors.ts";
import { choose, DocumentBuilder, randomOf, type SyntheticDocument, type SyntheticSource } from "./source.ts";

export interface FactsOptions {
  readonly seed?: number;
  /** People with attributes, up to 4096. Default 256. */
  readonly people?: number;
  /** Sentences of a document. Default 24. */
  readonly sentences?: number;
}

const openings = ["Al", "Be", "Co", "Du", "El", "Fa", "Gi", "Ho", "Iv", "Jo", "Ka", "Lu", "Mo", "Ne", "Os", "Pa"];
const middles = ["ba", "de", "fi", "go", "ka", "le", "mi", "no", "pa", "re", "si", "to", "va", "we", "xi", "zo"];
const endings = ["n", "r", "s", "l", "th", "m", "x", "nd", "ck", "sh", "rt", "ff", "gg", "pp", "zz", "st"];
const towns = [
  "Bergen",
  "Cadiz",
  "Dover",
  "Essen",
  "Ghent",
  "Izmir",
  "Kyoto",
  "Lyon",
  "Mumbai",
  "Naples",
  "Oslo",
  "Porto",
];
const trades = ["baker", "carver", "dyer", "farmer", "glazier", "joiner", "mason", "nurse", "potter", "tailor"];
const verbs = ["saw", "met", "heard", "left", "found", "asked", "joined", "thanked"];
const times = ["today", "at noon", "in May", "last week", "by night", "on Monday", "in winter", "years ago"];

/**
 * Facts among uncertain choices: "Albam was born in Oslo." holds for ever (the town and the trade of a name are certain),
 * "Albam met Corex at noon." is drawn anew each time. Tokens are bytes, so a choice is spread over the bytes that tell its
 * options apart: each byte's entropy is that of the next byte among the options that still fit. After the synthetic
 * biographies of Allen-Zhu and Li (2023).
 */
export class FactsSource implements SyntheticSource {
  readonly name = "facts";
  readonly parameters: Readonly<Record<string, unknown>>;
  /** Known by counting: it depends on the names drawn. */
  readonly entropyRate = null;
  private readonly seed: number;
  private readonly sentences: number;
  private readonly people: readonly { readonly name: string; readonly town: string; readonly trade: string }[];
  private readonly names: readonly string[];

  /** @throws ThalwegError BAD_OPTION for more people than there are names */
  constructor(options: FactsOptions = {}) {
    const { seed = 0, people = 256, sentences = 24 } = options;
    const most = openings.length * middles.length * endings.length;
    if (!Number.isInteger(people) || people < 1 || people > most || !(sentences >= 1))
      throw new ThalwegError(
        "BAD_OPTION",
        `facts: found ${people} people, ${sentences} sentences; expected 1 to ${most}, at least 1`,
      );
    this.parameters = { seed, people, sentences };
    this.seed = seed;
    this.sentences = sentences;
    const random = randomOf(`facts ${seed} language`);
    const pick = (list: readonly string[]) => list[Math.floor(random() * list.length)]!;
    this.people = choose(random, most, people).map((n) => ({
      name: openings[n >> 8]! + middles[(n >> 4) & 15]! + endings[n & 15]!,
      town: pick(towns),
      trade: pick(trades),
    }));
    this.names = this.people.map(({ name }) => `${name} `);
  }

  document(stream: string, index: number): SyntheticDocument {
    const random = randomOf(`facts ${this.seed} ${stream} ${index}`);
    const out = new DocumentBuilder();
    const choice = (options: readonly string[]): number => {
      const chosen = Math.floor(random() * options.length);
      spell(out, options, chosen);
      return chosen;
    };
    for (let s = 0; s < this.sentences; s++) {
      const person = this.people[choice(this.names)]!;
      const kind = choice(["was born in ", "works as a ", "then "]);
      if (kind === 0) choice([`${person.town}.\n`]);
      else if (kind === 1) choice([`${person.trade}.\n`]);
      else {
        choice(verbs.map((verb) => `${verb} `));
        choice(this.names);
        choice(times.map((time) => `${time}.\n`));
      }
    }
    return out.finish();
  }
}

/** Writes one of equally likely options (none the beginning of another), byte by byte with its entropy. */
function spell(out: DocumentBuilder, options: readonly string[], chosen: number): void {
  const text = options[chosen]!;
  let fitting = options;
  for (let i = 0; i < text.length; i++) {
    const counts = new Map<number, number>();
    for (const option of fitting) {
      const byte = option.charCodeAt(i);
      counts.set(byte, (counts.get(byte) ?? 0) + 1);
    }
    const total = fitting.length;
    const entropy = [...counts.values()].reduce((sum, count) => sum - (count / total) * Math.log(count / total), 0);
    const byte = text.charCodeAt(i);
    out.add(byte, entropy, counts.get(byte)! / total);
    if (counts.size > 1) fitting = fitting.filter((option) => option.charCodeAt(i) === byte);
  }
}
