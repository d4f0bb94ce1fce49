"""Anonymous memory of a coordinator and its workers, from the first tensor to the last token: hardly
more than the tensors and the cache of keys and values; and what stays of the file."""

import contextlib
import os
import pathlib
import re
import sys
import threading
import time

import pytest

from cluster import Cluster, model_path, wait_until

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import gguf_file  # noqa: E402
import random_model  # noqa: E402

KV_TOKENS = 2048
SHARE, BESIDE = 1.05, 64 << 20  # of the tensors and the cache; programs, libraries, working memory
SMALL = random_model.Shape(hidden=1024, inner=4096, layers=16, heads=16, kv_heads=4, vocabulary=4096)


class Peak(threading.Thread):
    """The most anonymous memory that processes had together."""

    def __init__(self, processes):
        super().__init__(daemon=True)
        self.processes, self.bytes, self.ended = processes, 0, False
        self.start()

    def run(self):
        while not self.ended:
            total = 0
            for p in self.processes:
                with contextlib.suppress(OSError, AttributeError):  # it may have just ended
                    status = pathlib.Path(f"/proc/{p.pid}/status").read_text()
                    total += int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.M).group(1)) * 1024
            self.bytes = max(self.bytes, total)
            time.sleep(0.02)

    def stop(self):
        self.ended = True
        self.join()
        return self.bytes


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    path = tmp_path_factory.mktemp("random") / "random.gguf"
    random_model.make(model_path("qwen2-tied-Q8_0"), path, SMALL.layers, shape=SMALL)
    yield path
    path.unlink()


@pytest.fixture
def model(request):
    if request.param == "generated":
        return request.getfixturevalue("generated")
    path = os.environ.get("PACELINE_TEST_MODEL")
    if not path:
        pytest.skip("PACELINE_TEST_MODEL names no file")
    return pathlib.Path(path)


def needed_bytes(path):
    """Tensors, and keys and values in float16."""
    reader = gguf_file.Reader(path)
    value = {name.partition(".")[2]: v for name, (_, v) in reader.keys.items()}
    width = value["embedding_length"] // value["attention.head_count"] * value["attention.head_count_kv"]
    return sum(t.bytes for t in reader.tensors) + 2 * 2 * value["block_count"] * width * KV_TOKENS


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("model", ["generated", "published"], indirect=True)
def test_memory_is_tensors_and_cache(home, model, workers):
    needed = needed_bytes(model)
    with Cluster(home, model, workers=workers, threads=2 // workers, wait=False,
                 # Measuring takes memory too, before there is a stage, and gives it back.
                 options=["--kv-tokens", KV_TOKENS, "--context", KV_TOKENS, "--no-measure"]) as c:
        peak = Peak([c.coordinator, *c.workers])
        try:
            c.wait_ready(60)
            status, _ = c.post("/v1/completions", {"prompt": "ab " * 200, "max_tokens": 8})
            assert status == 200
        finally:
            most = peak.stop()
    programs = workers + 1
    print(f"{model.name}: {needed >> 20} MiB needed, {most >> 20} MiB taken by {programs} programs")
    assert needed * 0.9 < most <= needed * SHARE + BESIDE * workers


def test_hashed_pages_are_given_back(tmp_path, generated):
    """The coordinator reads all of the model once; it does not keep it."""
    with Cluster(tmp_path, generated, workers=0) as c:
        wait_until(lambda: list(tmp_path.glob("manifests/*")), 60, "the model is hashed")
        status = pathlib.Path(f"/proc/{c.coordinator.pid}/status").read_text()
        mapped = int(re.search(r"^RssFile:\s+(\d+) kB", status, re.M).group(1)) * 1024
    assert mapped < generated.stat().st_size / 4
