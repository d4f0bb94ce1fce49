"""Embeddings and ranking by running clusters, against the states and logits that golden files and
probes give, and by the openai package's own types."""

import json
import math
import os
import pathlib
import struct

import pytest

from cluster import DATA, Cluster, model_path
from model_variants import BOOL, UINT32, changed, reranker

openai = pytest.importorskip("openai")
from openai.types import CreateEmbeddingResponse  # noqa: E402

from typed import strict  # noqa: E402

MODEL = "qwen3-sharded-F32"
FOLDER = DATA / "models" / "qwen3-sharded"
BOUND = 1e-3  # the oracle's, for float32, relative to the largest value


def golden():
    """The ids of the prompt of seven tokens, and the states behind the final norm."""
    about = json.loads((FOLDER / "golden" / "hf.json").read_text())
    prompt, = (p for p in about["prompts"] if p["n"] == 7)
    layers, rows, hidden = about["hidden"]["shape"]
    values = (FOLDER / "golden" / about["hidden"]["file"]).read_bytes()
    last = struct.unpack(f"<{rows * hidden}f", values[-4 * rows * hidden:])
    return prompt["ids"], [last[i * hidden:(i + 1) * hidden] for i in range(rows)]


def normal(vector):
    length = math.sqrt(sum(x * x for x in vector))
    return [x / length for x in vector]


def is_near(a, b, bound=BOUND):
    return len(a) == len(b) and max(abs(x - y) for x, y in zip(a, b)) <= bound * max(map(abs, b))


def embed(cluster, texts, **how):
    status, answer = cluster.post("/v1/embeddings", {"input": texts, **how})
    assert status == 200, answer
    assert [d["index"] for d in answer["data"]] == list(range(len(answer["data"])))
    return [d["embedding"] for d in answer["data"]]


@pytest.fixture(scope="module")
def two(home):
    with Cluster(home, model_path(MODEL), workers=2,
                 options=["--alias", "tiny", "--queue", "8", "--concurrency", "4"]) as c:
        yield c


@pytest.fixture(scope="module")
def client(two):
    with openai.OpenAI(base_url=two.url + "/v1", api_key="none", max_retries=0) as c:
        yield c


def test_last_token_by_default(two):
    ids, states = golden()
    vector, = embed(two, ids)
    assert is_near(vector, normal(states[-1]))
    # Shorter ones are their beginning, of length one again.
    short, = embed(two, ids, dimensions=5)
    assert is_near(short, normal(states[-1][:5]))


def test_mean(home):
    ids, states = golden()
    model = changed(MODEL, home / "mean.gguf", {"qwen3.pooling_type": (UINT32, 1)})
    with Cluster(home, model, workers=2) as c:
        vector, long = embed(c, [ids, ids * 40])  # one of several chunks
        mean = [sum(column) / len(states) for column in zip(*states)]
        assert is_near(vector, normal(mean))
        assert embed(c, [ids * 40])[0] == long


def test_end_that_the_tokenizer_adds(home, two):
    """And models that make none."""
    text = "once upon a time"
    plain = two.post("/tokenize", {"content": text})[1]["tokens"]
    end = 317  # <|endoftext|>
    model = changed(MODEL, home / "end.gguf", {"qwen3.pooling_type": (UINT32, 3),
                                        "tokenizer.ggml.add_eos_token": (BOOL, True),
                                        "tokenizer.ggml.eos_token_id": (UINT32, end)})
    with Cluster(home, model) as c:
        assert embed(c, text) == embed(two, [plain + [end]]) != embed(two, [plain])
        assert embed(c, text + "<|endoftext|>") == embed(c, text)
        assert embed(c, [plain]) == embed(two, [plain])  # ids are as they are
    for kind, word in ((2, "cls"), (4, "rank")):
        model = changed(MODEL, home / f"{word}.gguf", {"qwen3.pooling_type": (UINT32, kind)})
        with Cluster(home, model) as c:
            status, answer = c.post("/v1/embeddings", {"input": "x"})
            assert status == 400 and word in answer["error"]["message"]


def test_the_same_bits(home, two):
    """On one worker and on two, alone and among others, before and after a chat."""
    texts = [f"Text number {i} of many, {'which is long ' * (i % 9)}" for i in range(40)]
    many = embed(two, texts)
    assert [embed(two, t)[0] for t in texts[::7]] == many[::7]
    with Cluster(home, model_path(MODEL)) as one:
        assert embed(one, texts) == many


def test_many_texts(two):
    """More than the queue holds, and other requests get their turn."""
    vectors = embed(two, [[i % 300, 7] for i in range(700)])
    assert len(vectors) == 700 and vectors[0] == vectors[300] != vectors[1]


def test_openai(client, two):
    texts = ["Hello", "world", "Hello"]
    answer = client.embeddings.create(model="tiny", input=texts)  # base64, by the package's choice
    assert [d.index for d in answer.data] == [0, 1, 2]
    assert answer.data[0].embedding == answer.data[2].embedding != answer.data[1].embedding
    numbers = client.embeddings.with_raw_response.create(model="tiny", input=texts,
                                                         encoding_format="float", dimensions=8)
    typed = strict(CreateEmbeddingResponse, numbers.content)
    assert all(abs(sum(x * x for x in d.embedding) - 1) < 1e-6 for d in typed.data)
    assert typed.usage.prompt_tokens == typed.usage.total_tokens == answer.usage.prompt_tokens
    exact = [struct.unpack("<f", struct.pack("<f", x))[0] for x in embed(two, "Hello")[0]]
    assert list(answer.data[0].embedding) == exact
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="tiny", input=[[1] * 2000])
    assert caught.value.code == "context_length_exceeded"


def test_oracle(home):
    """The golden embeddings, where they are at hand."""
    folder = pathlib.Path(os.environ.get("PACELINE_ORACLE", "none")) / "models" / "qwen3-tied"
    if not folder.exists():
        pytest.skip("PACELINE_ORACLE is not set")
    cases = json.loads((folder / "golden" / "embeddings.json").read_text())["cases"]
    with Cluster(home, folder / "gguf" / "qwen3-tied-BF16.gguf", workers=2) as c:
        for case, vector in zip(cases, embed(c, [case["ids"] for case in cases])):
            assert is_near(vector, case["last"])


# ---- ranking ----

PROMPT = ("<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
          "and the Instruct provided. Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n"
          "<|im_start|>user\n<Instruct>: {}\n<Query>: {}\n<Document>: {}<|im_end|>\n"
          "<|im_start|>assistant\n<think>\n\n</think>\n\n")
USUAL = "Given a web search query, retrieve relevant passages that answer the query"


def probability(cluster, *parts):
    ids = cluster.post("/tokenize", {"content": PROMPT.format(*parts)})[1]["tokens"]
    size = cluster.get("/v1/models")[1]["data"][0]["meta"]["n_vocab"]
    logits = struct.unpack(f"<{size}f", cluster.logits(ids)[-4 * size:])
    yes, no = (cluster.post("/tokenize", {"content": w})[1]["tokens"] for w in ("yes", "no"))
    assert len(yes) == len(no) == 1
    return 1 / (1 + math.exp(logits[no[0]] - logits[yes[0]]))


def test_rerank(home, two):
    documents = ["Rain in Rome", {"text": "A recipe"}, "Nothing at all", "Rain"]
    texts = [d["text"] if isinstance(d, dict) else d for d in documents]
    with Cluster(home, reranker(MODEL, home / "rank.gguf"), workers=2, options=["--alias", "judge"]) as c:
        status, answer = c.post("/v1/rerank", {"query": "weather", "documents": documents})
        assert status == 200, answer
        assert answer["model"] == "judge"
        results = answer["results"]
        scores = [r["relevance_score"] for r in results]
        assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4
        for r in results:
            assert r["document"]["text"] == texts[r["index"]]
            assert abs(r["relevance_score"] -
                       probability(c, USUAL, "weather", texts[r["index"]])) < 1e-4
        assert answer["usage"]["total_tokens"] == sum(
            c.post("/tokenize", {"content": PROMPT.format(USUAL, "weather", t)})[1]["count"]
            for t in texts)
        status, answer = c.post("/rerank", {"query": "x", "documents": texts, "top_n": 2,
                                            "instruction": "Be strict", "return_documents": False})
        assert status == 200 and len(answer["results"]) == 2
        best = answer["results"][0]
        assert "document" not in best
        assert abs(best["relevance_score"] -
                   probability(c, "Be strict", "x", texts[best["index"]])) < 1e-4
    status, answer = two.post("/v1/rerank", {"query": "x", "documents": ["y"]})
    assert status == 400 and "yes" in answer["error"]["message"]
