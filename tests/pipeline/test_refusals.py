"""What cannot work is refused at the start: the right exit code, and one sentence that says what,
where, and what to do."""

import json
import os
import platform
import re
import shutil
import socket
import struct

import pytest

import zmtp
from cluster import (DATA, Cluster, Process, environment, free_port_pair, model_path, run,
                     the_sentence, wait_until)

MODEL = model_path("qwen2-tied-Q8_0")
COORDINATOR = ["--config", "/dev/null", "--http", "127.0.0.1:0", "--cluster", "127.0.0.1:0"]


def coordinator(home, *options, **how):
    code, out, err = run("paceline-coordinator", *COORDINATOR, *options, home=home, limit_s=20,
                         **how)
    assert not out
    return code, the_sentence(err)


# ---- model files ----

def patched(path, old, new):
    data = MODEL.read_bytes()
    assert old in data and len(old) == len(new)
    path.write_bytes(data.replace(old, new))
    return path


def test_truncated_model(home, tmp_path):
    for keep in (0, 3, 20, 1000, MODEL.stat().st_size - 1):
        cut = tmp_path / f"cut-{keep}.gguf"
        cut.write_bytes(MODEL.read_bytes()[:keep])
        code, sentence = coordinator(home, "--model", cut)
        assert code == 3 and str(cut) in sentence, sentence


def test_foreign_files(home, tmp_path):
    for name, data in {"text": b"Dear reader,\n" * 1000, "zip": b"PK\x03\x04" + bytes(5000),
                       "safetensors": struct.pack("<Q", 2) + b"{}"}.items():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(data)
        code, sentence = coordinator(home, "--model", path)
        assert code == 3 and str(path) in sentence and "GGUF" in sentence, sentence
    code, sentence = coordinator(home, "--model", tmp_path)
    assert code == 3 and str(tmp_path) in sentence


def test_unsupported_architecture(home, tmp_path):
    path = patched(tmp_path / "llama.gguf", b"\x05\0\0\0\0\0\0\0qwen2", b"\x05\0\0\0\0\0\0\0llama")
    code, sentence = coordinator(home, "--model", path)
    assert code == 3 and "llama" in sentence and "qwen3" in sentence, sentence


def test_unsupported_tensor_type(home, tmp_path):
    """I8 (type 24) exists, but holds no weights here."""
    data = bytearray(MODEL.read_bytes())
    at = data.index(b"blk.0.attn_q.weight") + len(b"blk.0.attn_q.weight")
    n_dims, = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at + 4 + 8 * n_dims, 24)
    path = tmp_path / "i8.gguf"
    path.write_bytes(data)
    code, sentence = coordinator(home, "--model", path)
    assert code == 3 and "blk.0.attn_q.weight" in sentence, sentence


def test_every_malformed_file_of_the_oracle(home):
    index = json.loads((DATA / "malformed" / "index.json").read_text())
    seen = 0
    for case in index["cases"]:
        path = DATA / "malformed" / case["file"]
        if case["kind"] != "gguf" or not path.exists() or case["expect"] != "refuse":
            continue
        # With a context of its own each ends at once even if it were accepted by mistake.
        code, out, err = run("paceline", "logits", path, "--tokens", "1", "--output",
                             home / "never", home=home, limit_s=30)
        assert code == 3 and not out, f"{path.name} ({case['reason']}): {code} {err}"
        the_sentence(err)
        seen += 1
    assert seen > 40 and not (home / "never").exists()


def test_absent_model(home):
    code, sentence = coordinator(home, "--model", "/nowhere/model.gguf")
    assert code == 3 and "/nowhere/model.gguf" in sentence
    code, sentence = coordinator(home, "--model", "no-such-name")
    assert code == 3 and "no-such-name" in sentence and "fetch" in sentence
    code, sentence = coordinator(home)
    assert code == 1 and "--model" in sentence


# ---- ports and addresses ----

def test_http_port_in_use(home):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        code, sentence = coordinator(home, "--model", MODEL, "--http", f"127.0.0.1:{port}")
    assert code == 4 and str(port) in sentence and "in use" in sentence, sentence


@pytest.mark.parametrize("taken", [0, 1, 2], ids=["cluster", "results", "weights"])
def test_cluster_port_in_use(home, taken):
    """Results come to the next port, and weights leave by the one after."""
    port = free_port_pair(3)
    with socket.socket() as s:
        s.bind(("127.0.0.1", port + taken))
        s.listen()
        code, sentence = coordinator(home, "--model", MODEL, "--cluster", f"127.0.0.1:{port}")
    assert code == 4 and str(port + taken) in sentence and "in use" in sentence, sentence


def test_data_port_in_use(home):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        code, _, err = run("paceline-worker", "--config", "/dev/null", "--data",
                           f"127.0.0.1:{port}", home=home, limit_s=20)
    sentence = the_sentence(err)
    assert code == 4 and str(port) in sentence and "in use" in sentence, sentence


def test_foreign_addresses(home):
    code, sentence = coordinator(home, "--model", MODEL, "--http", "192.0.2.1:0",
                                 "--api-key-file", "/dev/null")
    assert code in (2, 4), sentence
    code, _, err = run("paceline-worker", "--config", "/dev/null", "--insecure", "--coordinator",
                       "no-such-host.invalid:7470", home=home, limit_s=30)
    assert code == 4 and "no-such-host.invalid" in the_sentence(err)


def test_beyond_loopback(home, tmp_path):
    code, sentence = coordinator(home, "--model", MODEL, "--http", "0.0.0.0:0")
    assert code == 2 and "--api-key-file" in sentence and "127.0.0.1" in sentence
    code, sentence = coordinator(home, "--model", MODEL, "--http", "[::]:0")
    assert code == 2 and "--api-key-file" in sentence
    code, sentence = coordinator(home, "--model", MODEL, "--cluster", "0.0.0.0:0",
                                 "--encryption", "off")
    assert code == 2 and "insecure" in sentence
    code, _, err = run("paceline-worker", "--config", "/dev/null", "--coordinator",
                       "192.0.2.1:7470", home=home, limit_s=20)
    assert code == 2 and "insecure" in the_sentence(err)
    empty = tmp_path / "keys"
    empty.write_text("# none yet\n")
    code, sentence = coordinator(home, "--model", MODEL, "--http", "0.0.0.0:0",
                                 "--api-key-file", empty)
    assert code == 2 and str(empty) in sentence, sentence
    code, sentence = coordinator(home, "--model", MODEL, "--api-key-file", tmp_path / "absent")
    assert code in (1, 2) and "absent" in sentence


# ---- configuration ----

def config_case(home, tmp_path, program, text, *options):
    path = tmp_path / "bad.cfg"
    path.write_text(text)
    code, out, err = run(program[0], *program[1:], "--config", path, *options, home=home,
                         limit_s=20)
    assert not out
    return code, the_sentence(err), path


@pytest.mark.parametrize("text, line, words", [
    ('# a comment\nmodle = "x";\n', 2, ["modle", "model", "concurrency"]),
    ('\n\nkv = "f8";\n', 3, ["kv", "f8", "f16", "f32", "q8_0"]),
    ('workers = 257;\n', 1, ["workers", "257", "256"]),
    ('workers = "two";\n', 1, ["workers", "whole number"]),
    ('concurrency = 1.5;\n', 1, ["concurrency", "whole number"]),
    ('verbose = 1;\n', 1, ["verbose", "true or false"]),
    ('model = "a.gguf"\nworkers 3;\n', 2, ["syntax"]),
    ('max_body = "8 parsecs";\n', 1, ["max_body", "8 parsecs"]),
    ('\nhttp = "nonsense";\n', 2, ["http", "nonsense", "HOST:PORT"]),
    ('cluster = "127.0.0.1:99999";\n', 1, ["cluster", "65535"]),
    ('\n\n\ncuts = "5,3";\n', 4, ["cuts", "5,3", "ascend"]),
    ('ready_file = "x";\n', 1, ["ready_file"]),
], ids=lambda v: v[:24] if isinstance(v, str) else "")
def test_coordinator_configuration(home, tmp_path, text, line, words):
    code, sentence, path = config_case(home, tmp_path, ["paceline-coordinator"], text, "--model",
                                       MODEL)
    assert code == 2, sentence
    assert f"{path}:{line}:" in sentence, sentence
    for word in words:
        assert word in sentence, sentence


@pytest.mark.parametrize("text, words", [
    ('thread = 2;\n', ["thread", "threads", "memory"]),
    ('memory = "lots";\n', ["memory", "lots", "size"]),
    ('threads = -1;\n', ["threads", "-1"]),
    ('coordinator = "127.0.0.1";\n', ["coordinator", "HOST:PORT"]),
    ('data = ":";\n', ["data", "HOST:PORT"]),
    ('cache = "much";\n', ["cache", "much", "20GiB"]),
], ids=lambda v: v[:24] if isinstance(v, str) else "")
def test_worker_configuration(home, tmp_path, text, words):
    code, sentence, path = config_case(home, tmp_path, ["paceline-worker"], text)
    assert code == 2 and f"{path}:1:" in sentence, sentence
    for word in words:
        assert word in sentence, sentence


@pytest.mark.parametrize("text, line, words", [
    ('up: { worker = 2; };\n', 1, ["worker", "workers"]),
    ('up: {\n  kv = "q4";\n};\n', 2, ["kv", "q4", "f16", "f32", "q8_0"]),
    ('down: { };\n', 1, ["down", "up", "bench"]),
    ('workers = 2;\n', 1, ["workers", "group", "up"]),
    ('up: {\n  http = "x";\n};\n', 2, ["http", "HOST:PORT"]),
], ids=lambda v: v[:24] if isinstance(v, str) else "")
def test_paceline_configuration(home, tmp_path, text, line, words):
    code, sentence, path = config_case(home, tmp_path, ["paceline", "up"], text, MODEL)
    assert code == 2 and f"{path}:{line}:" in sentence, sentence
    for word in words:
        assert word in sentence, sentence


def test_absent_configuration(home):
    code, _, err = run("paceline-coordinator", "--config", "/nowhere.cfg", home=home, limit_s=20)
    assert code == 2 and "/nowhere.cfg" in the_sentence(err)


def test_print_config_can_be_read_back(home, tmp_path):
    for program in (["paceline-coordinator"], ["paceline-worker"], ["paceline", "up"]):
        code, out, _ = run(*program, "--config", "/dev/null", "--print-config", home=home)
        assert code == 0
        path = tmp_path / "printed.cfg"
        path.write_bytes(out)
        code, again, err = run(*program, "--config", path, "--print-config", home=home)
        assert code == 0 and again == out, err


def test_command_line_over_environment_over_file(home, tmp_path):
    path = tmp_path / "c.cfg"
    path.write_text("concurrency = 3;\nqueue = 5;\nworkers = 2;\n")
    code, out, _ = run("paceline-coordinator", "--config", path, "--workers", "7",
                       "--print-config", home=home, env={"PACELINE_QUEUE": "6",
                                                         "PACELINE_WORKERS": "4"})
    assert code == 0
    values = dict(re.findall(r"^(\w+) = (.*);$", out.decode(), flags=re.M))
    assert (values["concurrency"], values["queue"], values["workers"]) == ("3", "6", "7")


@pytest.mark.parametrize("options, words", [
    (["--contxt", "5"], ["--contxt", "--context"]), (["--workers"], ["--workers", "value"]),
    (["--workers", "many"], ["--workers", "many", "whole number"]), (["-x"], ["-x"]),
    (["extra"], ["extra"]), (["--verbose=yes"], ["verbose"]), (["--http", "nonsense"], ["http"]),
    (["--cuts", "3,x"], ["cuts", "3,x"]),
], ids=str)
def test_command_line(home, options, words):
    code, sentence = coordinator(home, "--model", MODEL, *options)
    assert code in (1, 2), sentence
    for word in words:
        assert word in sentence, sentence


def test_settings_that_do_not_fit_the_model(home):
    code, sentence = coordinator(home, "--model", MODEL, "--context", 5000)
    assert code == 2 and "5000" in sentence and "1024" in sentence
    code, sentence = coordinator(home, "--model", MODEL, "--cuts", "2,5")
    assert code == 2 and "5" in sentence and "4" in sentence


# ---- instruction sets ----

def test_unknown_instruction_set(home, tmp_path):
    foreign = "neon" if platform.machine() == "x86_64" else "avx2"
    for isa in ("sse9", "AVX2", "amx2", foreign):
        code, _, err = run("paceline-worker", "--config", "/dev/null", home=home, isa=isa,
                           limit_s=20)
        sentence = the_sentence(err)
        assert code == 1 and isa in sentence and "scalar" in sentence, sentence
        code, _, err = run("paceline", "logits", MODEL, "--tokens", "1", "--output",
                           tmp_path / "x", home=home, isa=isa, limit_s=30)
        sentence = the_sentence(err)
        assert code == 1 and isa in sentence, sentence


# ---- memory, workers, weights ----

def test_too_little_memory(home):
    with Cluster(home, MODEL, workers=0) as c:
        c.add_worker("--memory", "1MiB")
        assert c.coordinator.wait(20) == 5
        sentence = the_sentence(c.coordinator.text())
        assert "--memory" in sentence and "GiB" in sentence or "MiB" in sentence, sentence


def test_too_little_memory_from_the_command_line(home, tmp_path):
    """A later --memory wins over the fixture's; with cuts the stage is named."""
    with Cluster(home, MODEL, workers=0, cuts="3") as c:
        c.add_worker()
        c.add_worker("--memory", "1MiB")
        assert c.coordinator.wait(20) == 5
        sentence = the_sentence(c.coordinator.text())
        assert "layers 3 to 4" in sentence and "--memory" in sentence, sentence


def test_machines_that_come_one_by_one(home):
    """Without a number of them, what is too little waits for more, and says for how much."""
    with Cluster(home, MODEL, workers=0, options=["--workers", 0]) as c:
        c.add_worker("--memory", "1MiB")
        wait_until(lambda: "one more that offers" in json.dumps(c.get("/health")[1]), 20, "told")
        sentence = c.get("/health")[1]["error"]["message"]
        assert "--memory" in sentence and "GiB is enough" in sentence, sentence
        assert f"no plan: {sentence.split('; one more')[0]}" in c.coordinator.text()
        c.add_worker()
        c.wait_ready()
        states = {w["name"]: w["state"] for w in c.get("/cluster")[1]["workers"]}
        assert states["w2"] == "serving", states


def test_memory_without_its_unit(home):
    code, _, err = run("paceline-worker", "--config", "/dev/null", "--memory", "2", home=home)
    assert code == 2 and "2GiB" in the_sentence(err)


def test_memory_that_is_not_there(home):
    """A worker offers no more than there is, whatever it is told to."""
    with Cluster(home, MODEL, worker_options=["--memory", "100TiB"]) as c:
        offered = c.get("/cluster")[1]["workers"][0]["memory_offered"]
        assert 0 < offered <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert "102400.0 GiB is not to be had here" in c.workers[0].text()


def test_memory_that_was_promised(home):
    """Who is given layers and has no room for them is left out, if the others suffice."""
    with Cluster(home, MODEL, workers=1, joined=2, wait=False) as c:
        port = int(c.cluster.rsplit(":", 1)[1])
        with zmtp.Peer(port) as liar:
            liar.send(zmtp.hello(name="liar", threads=64, memory=1 << 50))
            while zmtp.LOAD not in (said := zmtp.parse(liar.receive()[-1])):
                pass
            epoch = zmtp.parse(said[zmtp.LOAD])[2]
            assert len(c.get("/cluster")[1]["workers"]) == 2
            liar.send(zmtp.control(zmtp.FAILED, {1: 1, 2: epoch, 3: -5, 4: "no memory for it"}))
            c.wait_ready()
            states = {w["name"]: w["state"] for w in c.get("/cluster")[1]["workers"]}
            assert states == {"w1": "serving", "liar": "unfit"}
            assert "worker liar: no memory for it" in c.coordinator.text()


def test_missing_worker(home):
    with Cluster(home, MODEL, workers=0, joined=2) as c:
        wait_until(lambda: "hashing" not in json.dumps(c.get("/health")[1]), 10, "hashed")
        status, health = c.get("/health")
        assert status == 503 and "0 of 2 workers" in health["error"]["message"], health
        c.add_worker()
        status, headers, body = c.request("GET", "/health")
        assert status == 503 and "1 of 2 workers" in json.loads(body)["error"]["message"]
        assert int(headers["retry-after"]) >= 1
        status, answer = c.post("/v1/completions", {"prompt": "x"})
        assert status == 503 and "1 of 2 workers" in answer["error"]["message"]
        c.add_worker()
        c.wait_ready()


def moved_model(home, tmp_path, change):
    """The coordinator has opened a file that then is gone; the worker has one of the same name."""
    path, models = tmp_path / "model.gguf", tmp_path / "models"
    models.mkdir()
    shutil.copy(MODEL, path)
    data = bytearray(path.read_bytes())
    change(data)
    (models / "model.gguf").write_bytes(data)
    c = Cluster(home, path, workers=0)
    path.rename(tmp_path / "elsewhere")
    return c, models


def test_same_file_in_another_folder(home, tmp_path):
    with moved_model(home, tmp_path, lambda data: None)[0] as c:
        c.add_worker("--models", tmp_path / "models")
        c.wait_ready()
        assert c.post("/v1/completions", {"prompt": "x", "max_tokens": 3})[0] == 200


def test_other_weights_under_the_same_name(home, tmp_path):
    def flip(data):
        data[len(data) * 3 // 4] ^= 1
    c, models = moved_model(home, tmp_path, flip)
    with c:
        c.add_worker("--models", models, "--no-ship")
        assert c.coordinator.wait(20) == 3
        sentence = the_sentence(c.coordinator.text())
        assert "w1" in sentence and "model.gguf" in sentence, sentence
        assert re.search(r"content|differ", sentence), sentence
        assert c.workers[0].is_alive()  # it waits for a coordinator that it can serve


def test_no_file_at_the_worker(home, tmp_path):
    c, models = moved_model(home, tmp_path, lambda data: None)
    (models / "model.gguf").unlink()
    with c:
        c.add_worker("--models", models, "--no-ship")
        assert c.coordinator.wait(20) == 3
        sentence = the_sentence(c.coordinator.text())
        assert str(models) in sentence and "copy" in sentence, sentence


def test_worker_waits_for_its_coordinator(home, tmp_path):
    """Started first, it joins when there is something to join, and leaves in order."""
    port = free_port_pair(3)
    worker = Process("paceline-worker", ["--config", "/dev/null", "--coordinator",
                                         f"127.0.0.1:{port}", "--name", "early"],
                     tmp_path / "log", environment(home))
    try:
        with Cluster(home, MODEL, workers=0, options=["--cluster", f"127.0.0.1:{port}"]) as c:
            c.wait_ready()
            assert c.get("/cluster")[1]["workers"][0]["name"] == "early"
    finally:
        assert worker.stop() == 0
