"""One process of llama.cpp or of ik_llama.cpp, driven through its C interface by ctypes.

`peers` starts this file with the Python of its virtual environment; what it finds goes to standard
output, one JSON object a line, so that what was measured before a crash is not lost. Timed is what
is timed of Paceline: tokens through the model, and the greedy choice of the next one.
"""
import argparse
import ctypes
import importlib
import json
import sys
import time


def say(**fields):
    print(json.dumps(fields), flush=True)


class Random:
    """Token ids that repeat from run to run; below the special tokens of Qwen's vocabularies."""

    def __init__(self, vocabulary):
        self.state, self.vocabulary = 1, min(vocabulary, 151643)

    def token(self):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) % self.vocabulary


class Engine:
    def __init__(self, args):
        self.args = args
        self.is_ik = args.engine == "ik"
        self.api = importlib.import_module(
            "ik_llama_cpp._ctypes_api" if self.is_ik else "llama_cpp.llama_cpp")
        self.numpy = importlib.import_module("numpy")
        self.context = None
        api = self.api
        api.llama_backend_init()
        start = time.perf_counter()
        params = api.llama_model_default_params()
        params.n_gpu_layers = 0
        if self.is_ik:
            params.repack_tensors = bool(args.repack)
            params.use_mmap = not args.repack
        else:
            params.use_extra_bufts = bool(args.repack)
        self.model = api.llama_model_load_from_file(args.model.encode(), params)
        if not self.model:
            sys.exit(f"{args.engine}: {args.model} could not be loaded")
        self.n_vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))
        self.random = Random(self.n_vocabulary)
        self.open_context(args.context, 1)
        self.batch = api.llama_batch_init(max(args.ubatch, 2048), 0, 1)
        self.step([(self.random.token(), 0, 0)])
        say(test="load", seconds=time.perf_counter() - start)

    def open_context(self, tokens, sequences):
        api = self.api
        if self.context:
            api.llama_free(self.context)
        params = api.llama_context_default_params()
        params.n_ctx = tokens * sequences
        params.n_batch = max(self.args.ubatch, 2048)
        params.n_ubatch = self.args.ubatch
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = self.args.threads
        if self.is_ik:
            params.flash_attn = bool(self.args.flash)
        else:
            params.flash_attn_type = 1 if self.args.flash else 0
        self.context = api.llama_init_from_model(self.model, params)
        if not self.context:
            sys.exit(f"{self.args.engine}: no context of {tokens} tokens")

    def clear(self):
        if self.is_ik:
            self.api.llama_kv_cache_clear(self.context)
        else:
            self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)

    def step(self, rows, wanted=None):
        """rows: (token, position, sequence); wanted: rows whose next token is chosen (the last)."""
        batch, api = self.batch, self.api
        wanted = {len(rows) - 1} if wanted is None else wanted
        for i, (token, position, sequence) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = i in wanted
        batch.n_tokens = len(rows)
        status = api.llama_decode(self.context, batch)
        if status:
            sys.exit(f"{self.args.engine}: llama_decode returned {status}")
        chosen = []
        for i in sorted(wanted):
            logits = ctypes.cast(api.llama_get_logits_ith(self.context, i),
                                 ctypes.POINTER(ctypes.c_float * self.n_vocabulary))
            chosen.append(int(self.numpy.frombuffer(logits.contents, dtype="f4").argmax()))
        return chosen

    def prompt(self, tokens, position=0):
        rows = [(self.random.token(), position + i, 0) for i in range(tokens)]
        start = time.perf_counter()
        for i in range(0, tokens, 2048):
            self.step(rows[i:i + 2048], None if i + 2048 >= tokens else set())
        return time.perf_counter() - start

    def prefill(self, tokens):
        self.clear()
        return tokens / self.prompt(tokens)

    def decode(self, tokens, depth, streams=1):
        """Tokens a second of all streams together, each `depth` tokens long before the clock."""
        self.clear()
        if depth:
            self.prompt(depth)
        wanted = set(range(streams))
        rows = [(self.random.token(), depth, s) for s in range(streams)]
        chosen = self.step(rows, wanted)
        start = time.perf_counter()
        for i in range(tokens):
            chosen = self.step([(t, depth + 1 + i, s) for s, t in enumerate(chosen)], wanted)
        return streams * tokens / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["llama", "ik"], required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--repack", type=int, default=1)
    parser.add_argument("--flash", type=int, default=1)
    parser.add_argument("--ubatch", type=int, default=512)
    parser.add_argument("--prefill", type=int, nargs="*", default=[])
    parser.add_argument("--depth", type=int, nargs="*", default=[])
    parser.add_argument("--streams", type=int, nargs="*", default=[])
    parser.add_argument("--generate", type=int, default=128)
    args = parser.parse_args()
    args.context = max(args.prefill + [d + args.generate + 2 for d in args.depth] + [512])
    args.context = (args.context + 255) // 256 * 256
    engine = Engine(args)
    engine.prefill(16)
    for tokens in args.prefill:
        say(test=f"prefill {tokens}", rate=engine.prefill(tokens))
    for depth in args.depth:
        say(test=f"decode at {depth}", rate=engine.decode(args.generate, depth))
    for streams in args.streams:
        engine.open_context((args.generate + 2 + 255) // 256 * 256, streams)
        engine.decode(2, 0, streams)
        say(test=f"batch {streams}", rate=engine.decode(args.generate, 0, streams))


if __name__ == "__main__":
    main()
