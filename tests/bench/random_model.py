#!/usr/bin/env python3
"""Writes a model in the shape of Qwen2.5-7B with random weights, as a valid GGUF file in Q4_K_M's mix
of types (4.7 GB): speed is measured where no cache helps, without a download of that size.

    tests/bench/random_model.py TOKENIZER.gguf OUT.gguf [--layers N] [--seed N]

The tokenizer comes from a file of the Qwen2.5 family. No quantiser runs: blocks are random bytes with
sane scales, from a pool of a few megabytes that begins elsewhere for each tensor. The same seed makes
the same file.
"""
import argparse
import collections
import random
import struct
import sys

import gguf_file
from gguf_file import ARRAY, F32, FLOAT32, INT32, Q4_K, Q6_K, STRING, UINT32

Shape = collections.namedtuple("Shape", "hidden inner layers heads kv_heads vocabulary")
SHAPE_7B = Shape(3584, 18944, 28, 28, 4, 152064)
LAYERS = SHAPE_7B.layers
POOL_BLOCKS = 1 << 16
UNUSED_TOKEN = 5


def half(x):
    return struct.pack("<e", x)


def spread(pool, block, at, value):
    """The same bytes at one place of every block."""
    for i, byte in enumerate(value):
        pool[at + i::block] = bytes([byte]) * (len(pool) // block)


def make_pools(seed):
    """Weights with a standard deviation of 0.02 or so."""
    source = random.Random(seed)
    q4 = bytearray(source.randbytes(POOL_BLOCKS * 144))
    spread(q4, 144, 0, half(8e-5))   # d: times a scale of 6 bits, times 0..15
    spread(q4, 144, 2, half(6e-4))   # minimum: times 6 bits; the middle of d's part
    q6 = bytearray(source.randbytes(POOL_BLOCKS * 210))
    small = bytes((b % 64 - 32) & 255 for b in range(256))
    for i in range(192, 208):        # signed scales
        q6[i::210] = q6[i::210].translate(small)
    spread(q6, 210, 208, half(6e-5))
    return {Q4_K: bytes(q4), Q6_K: bytes(q6)}


def more_bits(layer, layers):
    """Q4_K_M gives Q6_K to the first and last eighth of the layers, and to every third between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def list_tensors(shape):
    hidden, inner, layers = shape.hidden, shape.inner, shape.layers
    kv = hidden // shape.heads * shape.kv_heads
    tensors = [("token_embd.weight", [hidden, shape.vocabulary], Q4_K)]
    for i in range(layers):
        better = Q6_K if more_bits(i, layers) else Q4_K
        for name, size, kind in (
                ("attn_norm.weight", [hidden], F32), ("attn_q.weight", [hidden, hidden], Q4_K),
                ("attn_q.bias", [hidden], F32), ("attn_k.weight", [hidden, kv], Q4_K),
                ("attn_k.bias", [kv], F32), ("attn_v.weight", [hidden, kv], better),
                ("attn_v.bias", [kv], F32), ("attn_output.weight", [hidden, hidden], Q4_K),
                ("ffn_norm.weight", [hidden], F32), ("ffn_gate.weight", [hidden, inner], Q4_K),
                ("ffn_up.weight", [hidden, inner], Q4_K),
                ("ffn_down.weight", [inner, hidden], better)):
            tensors.append((f"blk.{i}.{name}", size, kind))
    return tensors + [("output_norm.weight", [hidden], F32),
                      ("output.weight", [hidden, shape.vocabulary], Q6_K)]


def make_keys(tokenizer, shape):
    keys = {"general.architecture": (STRING, b"qwen2"),
            "general.name": (STRING, b"Random weights in the shape of Qwen2.5-7B"),
            "general.file_type": (UINT32, 15),
            "qwen2.block_count": (UINT32, shape.layers),
            "qwen2.context_length": (UINT32, 32768),
            "qwen2.embedding_length": (UINT32, shape.hidden),
            "qwen2.feed_forward_length": (UINT32, shape.inner),
            "qwen2.attention.head_count": (UINT32, shape.heads),
            "qwen2.attention.head_count_kv": (UINT32, shape.kv_heads),
            "qwen2.rope.freq_base": (FLOAT32, 1e6),
            "qwen2.attention.layer_norm_rms_epsilon": (FLOAT32, 1e-6)}
    keys.update((name, value) for name, value in gguf_file.Reader(tokenizer).keys.items()
                if name.startswith("tokenizer."))
    _, tokens = keys["tokenizer.ggml.tokens"][1]
    if len(tokens) > shape.vocabulary:
        sys.exit(f"{tokenizer}: {len(tokens)} tokens, more than {shape.vocabulary}")
    _, types = keys["tokenizer.ggml.token_type"][1]
    tokens = tokens + [b"[PAD%d]" % i for i in range(len(tokens), shape.vocabulary)]
    keys["tokenizer.ggml.tokens"] = (ARRAY, (STRING, tokens))
    types = types + [UNUSED_TOKEN] * (shape.vocabulary - len(types))
    keys["tokenizer.ggml.token_type"] = (ARRAY, (INT32, types))
    return keys


def make(tokenizer, out, layers=LAYERS, seed=1, shape=SHAPE_7B):
    pools, source = make_pools(seed), random.Random(seed + 1)

    shape = shape._replace(layers=layers)

    def contents(name, size, kind):
        left = gguf_file.tensor_bytes(size, kind)
        if kind == F32:
            yield struct.pack("<f", 1 if name.endswith("norm.weight") else 0) * size[0]
            return
        pool, block = pools[kind], gguf_file.BLOCKS[kind][1]
        start = source.randrange(POOL_BLOCKS) * block
        while left:
            part = pool[start:start + left]
            yield part
            left, start = left - len(part), 0

    gguf_file.write(out, make_keys(tokenizer, shape), list_tensors(shape), contents)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", help="a GGUF file of the Qwen2.5 family")
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=LAYERS, help="fewer for a smaller file (%(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    make(args.tokenizer, args.out, args.layers, args.seed)


if __name__ == "__main__":
    main()
