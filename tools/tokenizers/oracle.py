"""Ids of texts by the Python libraries: its name and version first, then one JSON answer for each JSON request, by lines.

Request: {"texts": [..]}; answer: {"ids": [[..], ..], "decoded": [..], "unknown": [..]}, the last the characters of each text
that Python's Unicode has not assigned: newer ones, among them.
  python3 oracle.py hf TOKENIZER.json [--match-special]
  python3 oracle.py tiktoken RANKS_FILE WORDS
"""

import json
import sys
import unicodedata


def hugging_face(path, match_special):
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = not match_special

    def encode(texts):
        return [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(ids):
        return [tokenizer.decode(one, skip_special_tokens=False) for one in ids]

    return f"Hugging Face tokenizers {tokenizers.__version__}", encode, decode


def tiktoken_ranks(path, words):
    from importlib.metadata import version

    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    encoding = tiktoken.Encoding("ranks", pat_str=words, mergeable_ranks=load_tiktoken_bpe(path), special_tokens={})
    name = f"tiktoken {version('tiktoken')}"
    return name, lambda texts: [encoding.encode_ordinary(t) for t in texts], lambda ids: [encoding.decode(i) for i in ids]


def main():
    kind, path = sys.argv[1:3]
    made = tiktoken_ranks(path, sys.argv[3]) if kind == "tiktoken" else hugging_face(path, "--match-special" in sys.argv)
    name, encode, decode = made
    print(json.dumps(name), flush=True)
    for line in sys.stdin:
        texts = json.loads(line)["texts"]
        ids = encode(texts)
        unknown = ["".join(c for c in set(text) if unicodedata.category(c) == "Cn") for text in texts]
        print(json.dumps({"ids": ids, "decoded": decode(ids), "unknown": unknown}), flush=True)


if __name__ == "__main__":
    main()
