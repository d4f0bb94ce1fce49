#!/usr/bin/env python3
"""Writes a model in the shape of Qwen2.5-7B with random weights, as a valid GGUF file in Q4_K_M's mix
of types (4.7 GB): speed is measured where no cache helps, without a download of that size.

    tests/bench/random_model.py TOKENIZER.gguf OUT.gguf [--layers N] [--seed N]

The tokenizer comes from a file of the Qwen2.5 family. No quantiser runs: blocks are random bytes with
sane scales, from a pool of a few megabytes that begins elsewhere for each tensor. The same seed makes
the same file.
"""
import argparse
import random
import struct
import sys

import gguf_file
from gguf_file import ARRAY, F32, FLOAT32, INT32, Q4_K, Q6_K, STRING, UINT32

HIDDEN, INNER, LAYERS, HEADS, KV_HEADS, VOCABULARY = 3584, 18944, 28, 28, 4, 152064
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


def list_tensors(layers):
    kv = HIDDEN // HEADS * KV_HEADS
    tensors = [("token_embd.weight", [HIDDEN, VOCABULARY], Q4_K)]
    for i in range(layers):
        better = Q6_K if more_bits(i, layers) else Q4_K
        for name, shape, kind in (
                ("attn_norm.weight", [HIDDEN], F32), ("attn_q.weight", [HIDDEN, HIDDEN], Q4_K),
                ("attn_q.bias", [HIDDEN], F32), ("attn_k.weight", [HIDDEN, kv], Q4_K),
                ("attn_k.bias", [kv], F32), ("attn_v.weight", [HIDDEN, kv], better),
                ("attn_v.bias", [kv], F32), ("attn_output.weight", [HIDDEN, HIDDEN], Q4_K),
                ("ffn_norm.weight", [HIDDEN], F32), ("ffn_gate.weight", [HIDDEN, INNER], Q4_K),
                ("ffn_up.weight", [HIDDEN, INNER], Q4_K),
                ("ffn_down.weight", [INNER, HIDDEN], better)):
            tensors.append((f"blk.{i}.{name}", shape, kind))
    return tensors + [("output_norm.weight", [HIDDEN], F32),
                      ("output.weight", [HIDDEN, VOCABULARY], Q6_K)]


def make_keys(tokenizer, layers):
    keys = {"general.architecture": (STRING, b"qwen2"),
            "general.name": (STRING, b"Random weights in the shape of Qwen2.5-7B"),
            "general.file_type": (UINT32, 15),
            "qwen2.block_count": (UINT32, layers),
            "qwen2.context_length": (UINT32, 32768),
            "qwen2.embedding_length": (UINT32, HIDDEN),
            "qwen2.feed_forward_length": (UINT32, INNER),
            "qwen2.attention.head_count": (UINT32, HEADS),
            "qwen2.attention.head_count_kv": (UINT32, KV_HEADS),
            "qwen2.rope.freq_base": (FLOAT32, 1e6),
            "qwen2.attention.layer_norm_rms_epsilon": (FLOAT32, 1e-6)}
    keys.update((name, value) for name, value in gguf_file.Reader(tokenizer).keys.items()
                if name.startswith("tokenizer."))
    _, tokens = keys["tokenizer.ggml.tokens"][1]
    if len(tokens) > VOCABULARY:
        sys.exit(f"{tokenizer}: {len(tokens)} tokens, more than {VOCABULARY}")
    _, types = keys["tokenizer.ggml.token_type"][1]
    tokens = tokens + [b"[PAD%d]" % i for i in range(len(tokens), VOCABULARY)]
    keys["tokenizer.ggml.tokens"] = (ARRAY, (STRING, tokens))
    types = types + [UNUSED_TOKEN] * (VOCABULARY - len(types))
    keys["tokenizer.ggml.token_type"] = (ARRAY, (INT32, types))
    return keys


def make(tokenizer, out, layers=LAYERS, seed=1):
    pools, source = make_pools(seed), random.Random(seed + 1)

    def contents(name, shape, kind):
        left = gguf_file.tensor_bytes(shape, kind)
        if kind == F32:
            yield struct.pack("<f", 1 if name.endswith("norm.weight") else 0) * shape[0]
            return
        pool, block = pools[kind], gguf_file.BLOCKS[kind][1]
        start = source.randrange(POOL_BLOCKS) * block
        while left:
            part = pool[start:start + left]
            yield part
            left, start = left - len(part), 0

    gguf_file.write(out, make_keys(tokenizer, layers), list_tensors(layers), contents)


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
