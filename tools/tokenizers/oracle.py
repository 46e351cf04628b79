"""Ids of texts by the Python libraries: one JSON request a line on standard input, one JSON answer a line.

Request: {"texts": [..]}; answer: {"ids": [[..], ..], "decoded": [..]}.
  python3 oracle.py hf TOKENIZER.json [--match-special]
  python3 oracle.py tiktoken RANKS_FILE
"""

import json
import sys

R50K_WORDS = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def hugging_face(path, match_special):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.encode_special_tokens = not match_special

    def encode(texts):
        return [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(ids):
        return [tokenizer.decode(one, skip_special_tokens=False) for one in ids]

    return encode, decode


def tiktoken_ranks(path):
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    encoding = tiktoken.Encoding("ranks", pat_str=R50K_WORDS, mergeable_ranks=load_tiktoken_bpe(path), special_tokens={})
    return lambda texts: [encoding.encode_ordinary(t) for t in texts], lambda ids: [encoding.decode(i) for i in ids]


def main():
    kind, path = sys.argv[1:3]
    encode, decode = tiktoken_ranks(path) if kind == "tiktoken" else hugging_face(path, "--match-special" in sys.argv)
    for line in sys.stdin:
        ids = encode(json.loads(line)["texts"])
        print(json.dumps({"ids": ids, "decoded": decode(ids)}), flush=True)


if __name__ == "__main__":
    main()
