"""The same texts, greedy and sampled, from any cluster; alone and among seven requests at once."""

import threading

import pytest

from cluster import Cluster, instruction_sets, model_path
from golden import Golden

ISAS = instruction_sets()
MODEL = "qwen2-tied-Q8_0"
LENGTH = 40

# Ordinary text; "max_tokens" and the form of the answer are added.
REQUESTS = {
    "greedy": {"prompt": "A line of riders", "temperature": 0},
    "sampled": {"prompt": "the wind", "seed": 7, "temperature": 1.0},
    "hot": {"prompt": "the wind", "seed": 7, "temperature": 1.7, "top_p": 0.9},
    "choices": {"prompt": [11, 12, 13, 14], "seed": 8, "n": 3, "temperature": 0.9},
    "penalised": {"prompt": "again and again and again", "seed": 9, "temperature": 0.8,
                  "repetition_penalty": 1.3, "presence_penalty": 0.5, "frequency_penalty": 0.7},
    "truncated": {"prompt": [300, 20, 10], "seed": -5, "top_k": 20, "min_p": 0.02},
    "biased": {"prompt": "x" * 200, "seed": 2**63 - 1, "logit_bias": {"21": 4, "26": -100}},
}


def ask(c, body):
    """What must be the same: tokens, texts, log-probabilities to the last digit."""
    status, answer = c.post("/v1/completions", {**body, "max_tokens": LENGTH, "ignore_eos": True,
                                                "logprobs": 2, "return_token_ids": True})
    assert status == 200, answer
    return [(x["text"], x["token_ids"], x["logprobs"], x["finish_reason"])
            for x in sorted(answer["choices"], key=lambda x: x["index"])]


def ask_all_at_once(c):
    answers, gate = {}, threading.Barrier(len(REQUESTS))

    def one(name):
        gate.wait(10)
        answers[name] = ask(c, REQUESTS[name])
    threads = [threading.Thread(target=one, args=(name,)) for name in REQUESTS]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return answers


@pytest.fixture(scope="module")
def reference(home):
    with Cluster(home, model_path(MODEL), workers=1, threads=1, isa="scalar") as c:
        answers = {name: ask(c, body) for name, body in REQUESTS.items()}
    for name, choices in answers.items():
        assert all(len(ids) == LENGTH for _, ids, _, _ in choices), name
    assert len({ids_of(answers["choices"], i) for i in range(3)}) == 3
    assert answers["sampled"] != answers["hot"]
    return answers


def ids_of(choices, index):
    return tuple(choices[index][1])


CLUSTERS = [
    pytest.param({"workers": 1, "threads": 2, "isa": ISAS[-1]}, id="one"),
    pytest.param({"workers": 2, "threads": 1, "isa": ["scalar", ISAS[-1]]}, id="two-mixed"),
    pytest.param({"workers": 3, "threads": 2, "isa": ISAS[-1], "options": ["--cuts", "1,4"]},
                 id="three-by-cuts"),
    pytest.param({"workers": 3, "threads": 1, "isa": (ISAS * 3)[:3],
                  "options": ["--concurrency", "2"]}, id="three-with-a-queue"),
    pytest.param({"workers": 5, "threads": 1, "isa": ISAS[len(ISAS) // 2],
                  "options": ["--concurrency", "16"]}, id="five"),
]


@pytest.mark.parametrize("how", CLUSTERS)
def test_alone_and_among_seven(home, reference, how):
    with Cluster(home, model_path(MODEL), **how) as c:
        for name, body in REQUESTS.items():
            assert ask(c, body) == reference[name], f"{name}, alone"
        for _ in range(2):
            answers = ask_all_at_once(c)
            for name in REQUESTS:
                assert answers[name] == reference[name], f"{name}, in company"


def test_f32_cache_too(home):
    answers = []
    for how in ({"workers": 1, "threads": 1, "isa": "scalar"},
                {"workers": 4, "threads": 2, "isa": ISAS[-1]}):
        with Cluster(home, model_path(MODEL), options=["--kv", "f32"], **how) as c:
            answers.append(ask_all_at_once(c))
    assert answers[0] == answers[1]


@pytest.mark.parametrize("name, kind", [("qwen15-mha", "F16"), ("qwen3-sharded", "F32"),
                                        ("qwen2-yarn", "BF16"), ("qwen3-yarn", "BF16")])
def test_greedy_text_is_the_oracles(home, name, kind):
    """Float models: equal tokens as long as the margin is above twice the allowed difference."""
    golden = Golden(name, "hf")
    compared = 0
    with Cluster(home, model_path(f"{name}-{kind}"), workers=2, options=["--kv", "f32"]) as c:
        for prompt in golden.prompts:
            status, answer = c.post("/v1/completions", {
                "prompt": prompt["ids"], "max_tokens": len(prompt["greedy"]), "temperature": 0,
                "ignore_eos": False, "return_token_ids": True})
            assert status == 200, answer
            tokens = answer["choices"][0]["token_ids"]
            for i, (want, margin) in enumerate(zip(prompt["greedy"], prompt["greedy_margin"])):
                if margin <= 2e-3 or i == len(tokens):  # a near tie, or the end of the text
                    break
                assert tokens[i] == want, f"prompt of {prompt['n']}, token {i}"
                compared += 1
    assert compared >= 40
