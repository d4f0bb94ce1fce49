"""A file of one type, and llama.cpp's perplexity of it; `perplexity` starts this with the Python of the
peers' virtual environment. Prints one JSON object."""
import argparse
import ctypes
import json
import math
import re
import sys

import llama_cpp.llama_cpp as api
import numpy

import gguf_file

Q8_0 = 8
LINEAR = re.compile(r"(attn_(q|k|v|output)|ffn_(gate|up|down)|output|token_embd)\.weight$")


def quantise(source, out, kind, pattern):
    """Requantises `source`: Q8_0, and `kind` where the pattern says so. The importance of all columns
    is the same, since the codebook types of one and two bits want to be told one."""
    params = api.llama_model_quantize_default_params()
    params.allow_requantize = True
    params.ftype = api.LLAMA_FTYPE_MOSTLY_Q8_0
    params.pure = True
    params.nthread = args.threads
    overrides = (api.llama_model_tensor_override * 2)()
    overrides[0].pattern, overrides[0].type = pattern.encode(), kind
    params.tt_overrides = overrides
    if pattern == ".*":
        params.output_tensor_type = params.token_embedding_type = kind
    tensors = [t for t in gguf_file.Reader(source).tensors if LINEAR.search(t.name)]
    matrix = (api.llama_model_imatrix_data * (len(tensors) + 1))()
    keep = []
    for entry, tensor in zip(matrix, tensors):
        ones = (ctypes.c_float * tensor.shape[0])(*([1.0] * tensor.shape[0]))
        keep.append(ones)
        entry.name, entry.data, entry.size = tensor.name.encode(), ones, tensor.shape[0]
    params.imatrix = matrix
    if api.llama_model_quantize(source.encode(), out.encode(), params):
        sys.exit("llama_model_quantize failed")
    return sum(t.type == kind for t in gguf_file.Reader(out).tensors)


def perplexity(path, text, window, windows):
    """As `paceline perplexity` does it: the second half of each window is scored."""
    model_params = api.llama_model_default_params()
    model_params.use_extra_bufts = False  # its tiles crash when gcc 12 has built them
    model = api.llama_model_load_from_file(path.encode(), model_params)
    if not model:
        sys.exit(f"llama.cpp could not load {path}")
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = window
    params.n_threads = params.n_threads_batch = args.threads
    context = api.llama_init_from_model(model, params)
    vocabulary = api.llama_model_get_vocab(model)
    count = api.llama_vocab_n_tokens(vocabulary)
    ids = (api.llama_token * (len(text) + 8))()
    n = api.llama_tokenize(vocabulary, text, len(text), ids, len(ids), False, False)
    total, scored = 0.0, 0
    batch = api.llama_batch_init(window, 0, 1)
    for w in range(min(windows, n // window)):
        api.llama_memory_clear(api.llama_get_memory(context), True)
        for i in range(window):
            batch.token[i], batch.pos[i] = ids[w * window + i], i
            batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, i >= window // 2
        batch.n_tokens = window
        if api.llama_decode(context, batch):
            sys.exit("llama_decode failed")
        for i in range(window // 2, window - 1):
            row = ctypes.cast(api.llama_get_logits_ith(context, i), ctypes.POINTER(ctypes.c_float * count))
            x = numpy.frombuffer(row.contents, dtype="f4").astype("f8")
            total += x.max() + math.log(numpy.exp(x - x.max()).sum()) - x[ids[w * window + i + 1]]
            scored += 1
    return math.exp(total / scored), scored


parser = argparse.ArgumentParser()
for name in ("source", "out", "text", "pattern"):
    parser.add_argument(name)
for name in ("kind", "threads", "window", "windows"):
    parser.add_argument(name, type=int)
args = parser.parse_args()
api.llama_backend_init()
quiet = api.llama_log_callback(lambda level, text, data: None)
api.llama_log_set(quiet, None)
tensors = quantise(args.source, args.out, args.kind, args.pattern)
with open(args.text, "rb") as f:
    value, scored = perplexity(args.out, f.read(), args.window, args.windows)
print(json.dumps({"tensors": tensors, "perplexity": value, "scored": scored}))
