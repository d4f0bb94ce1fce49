"""A model that says what a test has written for it: a GGUF file that real workers load and real
samplers draw from. Its embeddings are unit vectors, its layers add nothing, and its head knows for
each token the one that follows: the prompt's last token chooses the script.

The template is Qwen3's, or Qwen3-Coder's, with the last message's text once more at the very end:
a message that ends in "A" has the answer of the script "A".
"""
import struct
import sys

from cluster import DATA, ROOT

sys.path.insert(0, str(ROOT / "tests" / "bench"))
from gguf_file import ARRAY, F32, FLOAT32, INT32, STRING, UINT32, write  # noqa: E402

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
SPECIALS = {"<|endoftext|>": CONTROL, "<|im_start|>": CONTROL, "<|im_end|>": CONTROL,
            "<tool_call>": USER_DEFINED, "</tool_call>": USER_DEFINED, "<think>": USER_DEFINED,
            "</think>": USER_DEFINED}
LAYERS, INNER, HEADS = 2, 32, 4


def letters():
    """GPT-2's byte alphabet: the character of each byte."""
    plain = [*range(0x21, 0x7f), *range(0xa1, 0xad), *range(0xae, 0x100)]
    others = iter(range(0x100, 0x200))
    return {b: chr(b) if b in plain else chr(next(others)) for b in range(256)}


def cut(data, seen):
    """The bytes in parts that are no tokens yet, for a token stands in one place only; or None."""
    if not data:
        return []
    for size in (3, 2, *range(4, 12)):
        part, rest = data[:size], data[size:]
        if len(part) == size and part not in seen:
            parts = cut(rest, seen | {part})
            if parts is not None:
                return [part, *parts]
    return None


def vocabulary(scripts):
    """Tokens, their kinds, and for each token the next one."""
    alphabet = letters()
    tokens, kinds = [*alphabet.values(), *SPECIALS], [NORMAL] * 256 + [*SPECIALS.values()]
    seen = {bytes([b]) for b in alphabet} | {name.encode() for name in SPECIALS}
    end = tokens.index("<|im_end|>")
    following = {}
    for selector, text in scripts.items():
        at = tokens.index(alphabet[ord(selector)])
        parts = cut(text.encode(), seen)
        assert parts, f"{text!r} cannot be cut into new tokens"
        seen.update(parts)
        for part in parts:
            following[at] = at = len(tokens)
            tokens.append("".join(alphabet[b] for b in part))
            kinds.append(NORMAL)
        following[at] = end
    return tokens, kinds, [following.get(i, end) for i in range(len(tokens))]


def make(path, scripts, template="qwen3", context=1024):
    """scripts: {"A": "Hello."}: what is said after a prompt that ends in this byte."""
    tokens, kinds, following = vocabulary(scripts)
    hidden = (len(tokens) + 63) // 64 * 64
    source = (DATA / "chat" / "templates" / f"{template}.jinja").read_text()
    keys = {"general.architecture": (STRING, b"qwen2"), "general.name": (STRING, b"Scripted"),
            "qwen2.block_count": (UINT32, LAYERS), "qwen2.context_length": (UINT32, context),
            "qwen2.embedding_length": (UINT32, hidden),
            "qwen2.feed_forward_length": (UINT32, INNER),
            "qwen2.attention.head_count": (UINT32, HEADS),
            "qwen2.attention.head_count_kv": (UINT32, HEADS),
            "qwen2.rope.freq_base": (FLOAT32, 1e4),
            "qwen2.attention.layer_norm_rms_epsilon": (FLOAT32, 1e-6),
            "tokenizer.ggml.model": (STRING, b"gpt2"), "tokenizer.ggml.pre": (STRING, b"qwen2"),
            "tokenizer.ggml.tokens": (ARRAY, (STRING, [t.encode() for t in tokens])),
            "tokenizer.ggml.token_type": (ARRAY, (INT32, kinds)),
            "tokenizer.ggml.merges": (ARRAY, (STRING, [])),
            "tokenizer.ggml.eos_token_id": (UINT32, tokens.index("<|im_end|>")),
            "tokenizer.chat_template":
                (STRING, (source + "{{- messages[-1].content }}").encode())}
    tensors = [("token_embd.weight", [hidden, len(tokens)], F32),
               ("output_norm.weight", [hidden], F32),
               ("output.weight", [hidden, len(tokens)], F32)]
    for i in range(LAYERS):
        tensors += [(f"blk.{i}.{name}", shape, F32) for name, shape in (
            ("attn_norm.weight", [hidden]), ("attn_q.weight", [hidden, hidden]),
            ("attn_q.bias", [hidden]), ("attn_k.weight", [hidden, hidden]),
            ("attn_k.bias", [hidden]), ("attn_v.weight", [hidden, hidden]),
            ("attn_v.bias", [hidden]), ("attn_output.weight", [hidden, hidden]),
            ("ffn_norm.weight", [hidden]), ("ffn_gate.weight", [hidden, INNER]),
            ("ffn_up.weight", [hidden, INNER]), ("ffn_down.weight", [INNER, hidden]))]

    def contents(name, shape, kind):
        assert kind == F32
        if name == "token_embd.weight":
            for i in range(shape[1]):
                yield struct.pack(f"<{hidden}f", *(float(k == i) for k in range(hidden)))
        elif name == "output.weight":
            for i in range(shape[1]):
                before = {k for k, after in enumerate(following) if after == i}
                yield struct.pack(f"<{hidden}f", *(float(k in before) for k in range(hidden)))
        else:
            value = 1.0 if "norm" in name else 0.0
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            yield struct.pack("<f", value) * count

    write(path, keys, tensors, contents)
    return path
