"""The same bits from any number of workers, any cuts, any instruction set, any number of threads;
and the right ones: within the oracle's bounds of golden logits."""

import itertools

import pytest

from cluster import Cluster, instruction_sets, model_path, run
from golden import Golden

ISAS = instruction_sets()

# model, kind of file, golden, layers
QUANTISED = [
    ("qwen2-tied", "Q8_0", "Q8_0", 5),
    ("qwen3-tied", "Q4_0", "Q4_0", 5),
    ("qwen2-tied", "Q5_1", "Q5_1", 5),
    ("qwen2-k256", "Q4_K_M", "Q4_K_M", 2),
    ("qwen3-k256", "Q2_K", "Q2_K", 2),
    ("qwen3-k256", "Q3_K_M", "Q3_K_M", 2),
]
FLOATS = [
    ("qwen15-mha", "F16", "hf", 3),
    ("qwen3-sharded", "F32", "hf", 3),
    ("qwen2-yarn", "BF16", "hf", 3),
    ("qwen3-yarn", "BF16", "hf", 3),
]
NAMES = [f"{m[0]}-{m[1]}" for m in QUANTISED + FLOATS]

CUTS = {2: [], 3: ["1", "2"], 5: ["1", "4", "1,2,4"]}


def longest(golden):
    return max(golden.prompts, key=lambda p: p["n"])


def cli_logits(home, tmp_path, model, tokens, *options, isa):
    ids, out = tmp_path / "ids.txt", tmp_path / "logits.f32"
    ids.write_text(",".join(map(str, tokens)))
    code, stdout, stderr = run("paceline", "logits", model, "--tokens-file", ids, "--output", out,
                               *options, home=home, isa=isa)
    assert code == 0 and not stdout, stderr
    data = out.read_bytes()
    out.unlink()
    return data


@pytest.mark.parametrize("name, kind, golden_name, layers", QUANTISED + FLOATS, ids=NAMES)
def test_every_split_and_instruction_set(home, tmp_path, name, kind, golden_name, layers):
    model, golden = model_path(f"{name}-{kind}"), Golden(name, golden_name)
    prompt = longest(golden)
    reference = cli_logits(home, tmp_path, model, prompt["ids"], "--workers", 1, "--threads", 1,
                           isa="scalar")
    assert len(reference) == prompt["n"] * golden.vocabulary * 4
    splits = [["--workers", n] for n in range(1, layers + 1)]
    splits += [["--cuts", cuts] for cuts in CUTS[layers]]
    for (i, isa), (k, split) in itertools.product(enumerate(ISAS), enumerate(splits)):
        threads = 1 + (i + k) % 2  # each split with both
        data = cli_logits(home, tmp_path, model, prompt["ids"], *split, "--threads", threads,
                          isa=isa)
        assert data == reference, f"{split} with {threads} threads on {isa} gives other bits"


@pytest.mark.parametrize("name, kind, golden_name, layers", FLOATS, ids=NAMES[len(QUANTISED):])
def test_float_models_match_the_oracle(home, name, kind, golden_name, layers):
    golden = Golden(name, golden_name)
    with Cluster(home, model_path(f"{name}-{kind}"), workers=2, options=["--kv", "f32"]) as c:
        for prompt in golden.prompts:
            relative, mean, _ = golden.compare(prompt, c.logits(prompt["ids"]))
            assert relative <= 2e-3, f"prompt of {prompt['n']}: {relative}"
            assert mean <= 1e-5, f"prompt of {prompt['n']}: {mean}"
    with Cluster(home, model_path(f"{name}-{kind}"), workers=layers) as c:
        for prompt in golden.prompts:
            _, mean, _ = golden.compare(prompt, c.logits(prompt["ids"]))
            assert mean <= 1e-3, f"f16 KV, prompt of {prompt['n']}: {mean}"


@pytest.mark.parametrize("name, kind, golden_name, layers", QUANTISED, ids=NAMES[:len(QUANTISED)])
def test_quantised_models_match_the_oracle(home, name, kind, golden_name, layers):
    golden = Golden(name, golden_name)
    with Cluster(home, model_path(f"{name}-{kind}"), workers=layers) as c:
        for prompt in golden.prompts:
            _, mean, most = golden.compare(prompt, c.logits(prompt["ids"]))
            assert mean <= 1e-2 and most <= 5e-2, f"prompt of {prompt['n']}: {mean}, {most}"


@pytest.mark.skipif(len(ISAS) < 2, reason="this machine has one instruction set")
@pytest.mark.parametrize("name, kind, golden_name, layers",
                         [QUANTISED[0], QUANTISED[3], FLOATS[1]],
                         ids=["qwen2-tied-Q8_0", "qwen2-k256-Q4_K_M", "qwen3-sharded-F32"])
def test_mixed_instruction_sets_in_one_pipeline(home, tmp_path, name, kind, golden_name, layers):
    model = model_path(f"{name}-{kind}")
    ids = longest(Golden(name, golden_name))["ids"]
    reference = cli_logits(home, tmp_path, model, ids, "--workers", 1, "--threads", 1,
                           isa="scalar")
    for isas in (["scalar", ISAS[-1]], [ISAS[-1], "scalar"], ISAS[:layers]):
        with Cluster(home, model, workers=len(isas), isa=isas) as c:
            status, cluster = c.get("/cluster")
            assert status == 200 and [w["isa"] for w in cluster["workers"]] == list(isas)
            assert c.logits(ids) == reference, f"{isas} gives other bits"


def test_threads_beyond_the_cores(home, tmp_path):
    model = model_path("qwen2-tied-Q8_0")
    ids = longest(Golden("qwen2-tied", "Q8_0"))["ids"]
    one = cli_logits(home, tmp_path, model, ids, "--threads", 1, isa=None)
    for threads in (3, 7):
        assert cli_logits(home, tmp_path, model, ids, "--threads", threads, isa=None) == one


def test_chunks_and_company_change_no_bit(home, tmp_path):
    """A long prompt comes in chunks over two stages, whole over one; alone and with others."""
    import threading
    model = model_path("qwen2-tied-Q8_0")
    ids = [(7 * i * i + 3) % 480 for i in range(700)]
    whole = cli_logits(home, tmp_path, model, ids, "--workers", 1, "--threads", 1, isa=ISAS[-1])
    with Cluster(home, model, workers=2, options=["--concurrency", "4"]) as c:
        assert c.logits(ids) == whole
        stop = threading.Event()

        def talk():
            while not stop.is_set():
                c.post("/v1/completions", {"prompt": [5, 6, 7], "max_tokens": 50, "seed": 1})
        others = [threading.Thread(target=talk) for _ in range(3)]
        for t in others:
            t.start()
        try:
            assert c.logits(ids) == whole
        finally:
            stop.set()
            for t in others:
                t.join()
