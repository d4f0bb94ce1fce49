"""Models of tests/data with something changed."""

import sys

from cluster import ROOT, model_path

sys.path.insert(0, str(ROOT / "tests" / "bench"))
from gguf_file import ARRAY, BOOL, INT32, STRING, UINT32, Reader, write  # noqa: E402, F401


def changed(source, target, keys):
    """The file of a model of tests/data with other metadata."""
    reader = Reader(model_path(source))
    data = {t.name: t for t in reader.tensors}

    def contents(name, shape, kind):
        with open(model_path(source), "rb") as f:
            f.seek(reader.data + data[name].offset)
            yield f.read(data[name].bytes)

    write(target, {**reader.keys, **keys}, [(t.name, t.shape, t.type) for t in reader.tensors],
          contents)
    return target


def reranker(source, target):
    """With a vocabulary that has the words yes and no, so that it can rank."""
    reader = Reader(model_path(source))
    tokens = list(reader.keys["tokenizer.ggml.tokens"][1][1])
    kinds = list(reader.keys["tokenizer.ggml.token_type"][1][1])
    merges = list(reader.keys["tokenizer.ggml.merges"][1][1])
    for word in (b"ye", b"yes", b"no"):
        if word not in tokens:
            at = next(i for i, t in enumerate(tokens) if t.startswith(b"[PAD"))
            tokens[at], kinds[at] = word, 1
    merges = [b"y e", b"ye s", b"n o", *(m for m in merges if m not in (b"y e", b"ye s", b"n o"))]
    return changed(source, target, {"tokenizer.ggml.tokens": (ARRAY, (STRING, tokens)),
                                    "tokenizer.ggml.token_type": (ARRAY, (INT32, kinds)),
                                    "tokenizer.ggml.merges": (ARRAY, (STRING, merges))})
