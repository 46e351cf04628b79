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
  /** What is certain of each person, as choices of one. */
  private readonly people: readonly { readonly town: Spelling; readonly trade: Spelling }[];
  private readonly names: Spelling;

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
    const drawn = choose(random, most, people);
    this.people = drawn.map(() => ({
      town: new Spelling([`${pick(towns)}.\n`]),
      trade: new Spelling([`${pick(trades)}.\n`]),
    }));
    this.names = new Spelling(drawn.map((n) => `${openings[n >> 8]}${middles[(n >> 4) & 15]}${endings[n & 15]} `));
  }

  document(stream: string, index: number): SyntheticDocument {
    const random = randomOf(`facts ${this.seed} ${stream} ${index}`);
    const out = new DocumentBuilder();
    const choice = (options: Spelling): number => {
      const chosen = Math.floor(random() * options.count);
      options.write(chosen, out);
      return chosen;
    };
    for (let s = 0; s < this.sentences; s++) {
      const person = this.people[choice(this.names)]!;
      const kind = choice(kinds);
      if (kind === 0) choice(person.town);
      else if (kind === 1) choice(person.trade);
      else {
        choice(deeds);
        choice(this.names);
        choice(moments);
      }
    }
    return out.finish();
  }
}

/** What may follow the bytes of a choice written so far. */
interface Prefix {
  /** Entropy of the next byte in nats. */
  readonly entropy: number;
  /** By the next byte: its probability, and what may follow it; made when it is first written. */
  readonly next: Map<number, { readonly probability: number; after: Prefix | null }>;
  readonly fitting: readonly string[];
}

/** Equally likely texts (none the beginning of another), written byte by byte, each with its entropy. */
class Spelling {
  readonly count: number;
  private readonly options: readonly string[];
  private readonly root: Prefix;
  private readonly spelled: (SyntheticDocument | undefined)[];

  constructor(options: readonly string[]) {
    this.count = options.length;
    this.options = options;
    this.root = prefixOf(options, 0);
    this.spelled = new Array(options.length);
  }

  write(chosen: number, out: DocumentBuilder): void {
    out.append((this.spelled[chosen] ??= this.spell(this.options[chosen]!)));
  }

  private spell(text: string): SyntheticDocument {
    const out = new DocumentBuilder();
    let at = this.root;
    for (let i = 0; i < text.length; i++) {
      const byte = text.charCodeAt(i);
      const branch = at.next.get(byte)!;
      out.add(byte, at.entropy, branch.probability);
      if (i + 1 === text.length) break;
      branch.after ??= prefixOf(
        at.fitting.filter((option) => option.charCodeAt(i) === byte),
        i + 1,
      );
      at = branch.after;
    }
    return out.finish();
  }
}

/** The byte at `place` among options that agree before it. */
function prefixOf(fitting: readonly string[], place: number): Prefix {
  const counts = new Map<number, number>();
  for (const option of fitting) {
    const byte = option.charCodeAt(place);
    counts.set(byte, (counts.get(byte) ?? 0) + 1);
  }
  const shares = [...counts].map(([byte, count]) => [byte, count / fitting.length] as const);
  const entropy = shares.reduce((sum, [, share]) => sum - share * Math.log(share), 0);
  const next = new Map(shares.map(([byte, probability]) => [byte, { probability, after: null as Prefix | null }]));
  return { entropy, next, fitting };
}

const kinds = new Spelling(["was born in ", "works as a ", "then "]);
const deeds = new Spelling(verbs.map((verb) => `${verb} `));
const moments = new Spelling(times.map((time) => `${time}.\n`));
