"""An ARM64 worker, under qemu, and one of this machine in one pipeline: the bits of one process."""

import platform
import shutil

import pytest

from cluster import ARM64, Cluster, instruction_sets, model_path
from golden import Golden

if platform.machine() != "x86_64":
    pytest.skip("for x86-64 machines", allow_module_level=True)
if not (ARM64 / "bin" / "paceline-worker").exists() or not shutil.which("qemu-aarch64"):
    pytest.skip("no ARM64 worker could be built here (tests/arm64/cross-build)", allow_module_level=True)

BEST = instruction_sets()[-1]
MODELS = [("qwen2-tied", "Q8_0"), ("qwen2-k256", "Q4_K_M"), ("qwen3-tied", "MXFP4")]
# CPU and instruction set of each worker; no CPU: this machine's
PIPELINES = [
    [(None, BEST), ("max", "neon")],
    [("cortex-a76", "neon"), (None, BEST)],
    [("max", "scalar"), (None, "scalar")],
]
REQUESTS = [
    {"temperature": 0},
    {"temperature": 0.9, "seed": 11},
    {"temperature": 1.1, "seed": 7, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1},
]


def answers(c, prompt):
    """All that a client can see of 64 tokens, probabilities included."""
    found = []
    for request in REQUESTS:
        status, answer = c.post("/v1/completions", {"prompt": prompt, "max_tokens": 64,
                                                    "ignore_eos": True, "logprobs": 3, **request})
        assert status == 200, answer
        choice = answer["choices"][0]
        assert len(choice["logprobs"]["tokens"]) == answer["usage"]["completion_tokens"] == 64
        found.append((choice, answer["usage"]))
    return found


@pytest.fixture(scope="module", params=MODELS, ids=["-".join(m) for m in MODELS])
def reference(request, home):
    """A model, prompts, and what one process of this machine makes of them."""
    name, kind = request.param
    model = model_path(f"{name}-{kind}")
    prompts = Golden(name, kind).prompts
    long, short = (f(prompts, key=lambda p: p["n"])["ids"] for f in (max, min))
    with Cluster(home, model, workers=1, isa=BEST) as c:
        yield model, long, short, c.logits(long), answers(c, short)


@pytest.mark.parametrize("pipeline", PIPELINES,
                         ids=lambda p: "-".join(f"{cpu or 'here'}-{isa}" for cpu, isa in p))
def test_same_bits(home, reference, pipeline):
    model, long, short, logits, said = reference
    cpus, isas = zip(*pipeline)
    with Cluster(home, model, workers=len(pipeline), isa=isas, emulated=cpus) as c:
        workers = c.get("/cluster")[1]["workers"]
        assert [w["isa"] for w in workers] == list(isas)
        for worker, (cpu, isa) in zip(workers, pipeline):
            products = {"max": "i8mm", "cortex-a76": "neon"}.get(cpu, isa)
            if isa == "neon":
                assert f"matmul.Q4_K={products} " in worker["kernels"]
        assert c.logits(long) == logits
        assert answers(c, short) == said


def test_neon_is_refused_elsewhere(home):
    with pytest.raises(AssertionError, match="lacks the instruction set \"neon\""):
        Cluster(home, model_path("qwen2-tied-Q8_0"), isa="neon")
