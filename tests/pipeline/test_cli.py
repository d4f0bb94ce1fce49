"""The command for people, with real coordinators and workers behind it (test_verbs.py has fakes)."""

import json
import math
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import time

import pytest

from cluster import (DATA, PROGRAMS, ROOT, Process, environment, instruction_sets, model_path, run,
                     survivors, the_sentence, wait_until)

MODEL = model_path("qwen2-tied-Q8_0")
VERBS = ["up", "fetch", "chat", "tokenize", "logits", "perplexity", "bench"]


# ---- help ----

@pytest.mark.parametrize("command", [["paceline"], ["paceline-coordinator"], ["paceline-worker"],
                                     *(["paceline", verb] for verb in VERBS)], ids=" ".join)
def test_help_and_version(home, command):
    for option in ("--help", "-h"):
        code, out, err = run(*command, option, home=home)
        assert code == 0 and not err and out.decode().startswith(f"Usage: {' '.join(command)}")
        assert len(out) > 300
    for option in ("--version", "-V"):
        code, out, err = run(*command, option, home=home)
        name, version = out.decode().rsplit(None, 1)
        assert code == 0 and not err and name == " ".join(command)
        assert version.count(".") == 2


# ---- tokenize ----

TEXTS = ["Hello, world!", "", "  two  spaces\tand a tab ", "naïve café — 漢字 🚴🏽‍♀️", "a" * 500,
         "<|im_start|>user", "1234567890", "don't WON'T", "\u0301x", "\r"]


def test_tokenize_and_back(home):
    text = "\n".join(TEXTS) + "\n"
    code, ids, err = run("paceline", "tokenize", MODEL, home=home, stdin=text.encode())
    assert code == 0 and not err
    lines = ids.decode().split("\n")
    assert len(lines) == len(TEXTS) + 1 and lines[1] == ""
    for line in lines:
        assert all(0 <= int(x) < 512 for x in line.split(",") if line)
    code, back, err = run("paceline", "tokenize", MODEL, "--decode", home=home, stdin=ids)
    assert code == 0 and back.decode() == text, err


def test_tokenize_special_tokens(home):
    source = b"<|im_start|>x<|im_end|>\n"
    special = run("paceline", "tokenize", MODEL, home=home, stdin=source)[1].decode()
    plain = run("paceline", "tokenize", MODEL, "--plain", home=home, stdin=source)[1].decode()
    assert special.count(",") == 2 and plain.count(",") > 8
    for ids in (special, plain):
        assert run("paceline", "tokenize", MODEL, "-d", home=home, stdin=ids.encode())[1] == source


def test_tokenize_is_the_servers(home, pair):
    text = "The same ids, whoever makes them: ü, 漢."
    ids = run("paceline", "tokenize", MODEL, home=home, stdin=text.encode())[1].decode()
    assert pair.post("/tokenize", {"content": text})[1]["tokens"] == \
        [int(x) for x in ids.split(",")]


def test_tokenize_wrong_input(home):
    code, _, err = run("paceline", "tokenize", MODEL, "--decode", home=home, stdin=b"1,2\n3,x\n")
    assert code == 1 and "line 2" in the_sentence(err) and '"x"' in err
    code, _, err = run("paceline", "tokenize", MODEL, "--decode", home=home, stdin=b"512\n")
    assert code == 1 and "512" in the_sentence(err)
    code, _, err = run("paceline", "tokenize", DATA / "malformed" / "truncated_data.gguf",
                       home=home)
    assert code == 3 and "truncated_data.gguf" in the_sentence(err)
    code, _, err = run("paceline", "tokenize", "no-such-model", "--models-file",
                       ROOT / "deploy" / "models.cfg", home=home)
    assert code == 3 and "no-such-model" in the_sentence(err)


# ---- logits ----

def test_logits_of_the_whole_context(home, tmp_path):
    out = tmp_path / "l.f32"
    for count, expected in ((1, 0), (1024, 0), (1025, 2)):
        ids = ",".join(["7"] * count)
        code, stdout, err = run("paceline", "logits", MODEL, "--tokens", ids, "-o", out, "-w", 2,
                                home=home)
        assert code == expected and not stdout, err
        if code == 0:
            assert out.stat().st_size == count * 512 * 4
            out.unlink()
        else:
            assert "1025" in the_sentence(err) and not out.exists()


def test_logits_refused_before_anything_starts(home, tmp_path):
    ids = tmp_path / "ids"
    ids.write_text("1, 2, 600")
    out = tmp_path / "x"
    cases = [(["--tokens", "1,512", "-o", out], ("--tokens", "number 2 is 512", MODEL.name, "511")),
             (["--tokens-file", ids, "-o", out], (str(ids), "number 3 is 600")),
             (["--tokens", "1", "-o", tmp_path / "no" / "folder"],
              (f"--output {tmp_path}/no/folder: No such",)),
             (["--tokens", "1", "-o", tmp_path], (f"--output {tmp_path}", "not a regular file")),
             (["--tokens", "1", "-o", "/dev/null"], ("--output /dev/null",))]
    for options, words in cases:
        code, out, err = run("paceline", "logits", MODEL, *options, home=home)
        assert code == 1 and not out
        assert all(word in the_sentence(err) for word in words), err
        assert "starting" not in err and list(tmp_path.iterdir()) == [ids]
    assert pathlib.Path("/dev/null").is_char_device()


def test_logits_wrong_cuts(home, tmp_path):
    for cuts, expected in (("5", 2), ("3,2", 1), ("0", 1), ("x", 1), ("2,,3", 1)):
        code, _, err = run("paceline", "logits", MODEL, "--tokens", "1", "-o", tmp_path / "x",
                           "--cuts", cuts, home=home)
        assert code == expected and "cut" in the_sentence(err), f"{cuts}: {code} {err}"


@pytest.mark.parametrize("verb", [["up", "no-such-model"], ["bench", "no-such-model"],
                                  ["chat", "--model", "no-such-model", "x"],
                                  ["perplexity", "no-such-model", "no-such-text"],
                                  ["logits", "no-such-model", "--tokens", "1", "-o", "x"]],
                         ids=lambda v: v[0])
def test_workers_and_cuts_that_differ(home, tmp_path, verb):
    """Said at once: before the model is looked for, and with nothing started."""
    for options, words in ((("--cuts", "1,3", "--workers", 2), ("3 workers", "says 2")),
                           (("--cuts", "1", "--workers", 3), ("2 workers", "says 3")),
                           (("--workers", 257), ("from 0 to 256",)),
                           (("--workers", "many"), ("from 0 to 256",)),
                           (("--cuts", ",".join(map(str, range(1, 257)))), ("257 stages", "256"))):
        code, out, err = run("paceline", *verb, *options, home=home, cwd=tmp_path)
        assert code == 1 and not out
        assert all(word in the_sentence(err) for word in words), err


def test_cuts_make_the_workers(home, tmp_path):
    for options in (("--cuts", "1,3"), ("--cuts", "1,3", "--workers", 3)):
        code, out, err = run("paceline", "bench", MODEL, "-p", 4, "-n", 4, "--runs", 1, "--json",
                             *options, home=home)
        assert code == 0, err
        report = json.loads(out)
        assert report["workers"] == 3
        assert [s["layers"] for s in report["stages"]] == [[0, 1], [1, 3], [3, 5]]


def test_limits_are_the_coordinators(home):
    for verb, option, most in ((["up"], "--context", 1 << 20), (["up"], "--concurrency", 1024),
                               (["perplexity", MODEL, "x"], "--context", 1 << 20),
                               (["bench", MODEL], "--prompt", (1 << 20) - 2)):
        for wrong in (most + 1, "x"):
            code, _, err = run("paceline", *verb, option, wrong, home=home)
            assert code == 1 and f"to {most}" in the_sentence(err)


# ---- perplexity ----

def test_perplexity(home, tmp_path, pair):
    text = tmp_path / "text.txt"
    text.write_text("The riders change places at the front, one after the other. " * 20)
    code, out, err = run("paceline", "perplexity", MODEL, text, "--context", 64, "--json",
                         "--workers", 2, home=home)
    assert code == 0, err
    report = json.loads(out)
    assert set(report) == {"perplexity", "uncertainty", "scored", "windows", "context"}
    assert report["context"] == 64 and report["scored"] == report["windows"] * 31
    assert "perplexity so far 0.0" not in err
    # The same from the server's own scores.
    ids = pair.post("/tokenize", {"content": text.read_text()})[1]["tokens"]
    assert report["windows"] == len(ids) // 64
    scores = []
    for w in range(len(ids) // 64):
        answer = pair.post("/v1/probe", {"tokens": ids[w * 64:w * 64 + 64]})[1]
        scores += answer["logprobs"][32:]
    assert math.isclose(math.exp(-sum(scores) / len(scores)), report["perplexity"], rel_tol=1e-6)
    # People's form; the model's whole context.
    code, out, err = run("paceline", "perplexity", MODEL, text, "--context", 1024, home=home)
    assert code == 0 and out.decode().startswith("perplexity "), err


def test_scores_are_those_of_the_logits(pair):
    ids = [(11 * i * i + 5) % 480 for i in range(60)]
    logprobs = pair.post("/v1/probe", {"tokens": ids})[1]["logprobs"]
    rows = struct.unpack(f"<{60 * 512}f", pair.logits(ids))
    for i, logprob in enumerate(logprobs):
        row = rows[i * 512:(i + 1) * 512]
        top = max(row)
        want = row[ids[i + 1]] - top - math.log(sum(math.exp(x - top) for x in row))
        assert math.isclose(logprob, want, rel_tol=1e-5, abs_tol=1e-5)


# ---- bench ----

def test_bench(home):
    code, out, err = run("paceline", "bench", MODEL, "-p", "40,7", "-n", 10, "-d", "0,30", "-s", "1,4",
                         "--workers", 3, "--threads", 1, "--runs", 3, "--json", home=home)
    assert code == 0, err
    rates = re.findall(rb'"(?:median|min|max)": (\S+?),?\n|^ +(\d+\.\d+),?$', out, re.M)
    assert len(rates) >= 30
    for rate in (a or b for a, b in rates):
        assert re.fullmatch(rb"\d+\.\d{1,3}", rate), rate
    report = json.loads(out)
    assert set(report) == {"model", "workers", "threads", "isa", "load_seconds", "measurements",
                           "stages"}
    assert (report["model"], report["workers"], report["threads"]) == (MODEL.name, 3, 1)
    assert report["isa"] == instruction_sets()[-1]
    assert 0 < report["load_seconds"] < 60
    assert [(m["what"], m["tokens"], m["depth"], m["streams"]) for m in report["measurements"]] == [
        ("prefill", 40, 0, 1), ("prefill", 7, 0, 1), ("decode", 10, 0, 1), ("decode", 10, 30, 1),
        ("decode", 10, 0, 4)]
    for part in (m["tokens_per_second"] for m in report["measurements"]):
        assert set(part) == {"median", "min", "max", "runs"} and len(part["runs"]) == 3
        assert 0 < part["min"] <= part["median"] <= part["max"] == max(part["runs"])
        assert part["median"] == sorted(part["runs"])[1]
    assert [s["layers"] for s in report["stages"]] == [[0, 2], [2, 4], [4, 5]]
    for stage in report["stages"]:
        assert "matmul.Q8_0=" in stage["kernels"]


def test_bench_counts_all_streams(home):
    """Slots for all of them, and the tokens of all: with 16 rows a step costs a tiny model little
    more than with one."""
    code, out, err = run("paceline", "bench", MODEL, "-p", 0, "-n", 30, "-s", "1,16", "--runs", 3,
                         "--threads", 1, "--json", home=home)
    assert code == 0, err
    one, many = [m["tokens_per_second"]["median"] for m in json.loads(out)["measurements"]]
    assert many > 2 * one


def test_bench_lists(home):
    for option, wrong, words in (("-p", "4,", '"4,"'), ("-d", "x", "0 to 1048574"),
                                 ("-s", "0", "1 to 64"), ("-s", "1,65", "1 to 64"),
                                 ("-d", "1048574", "context")):
        code, out, err = run("paceline", "bench", MODEL, option, wrong, home=home)
        assert code == 1 and not out and words in the_sentence(err), err


def test_bench_says_what_ran(home):
    code, out, err = run("paceline", "bench", MODEL, "-p", 4, "-n", 4, "-d", 9, "-s", "1,2", "--cuts",
                         3, "--runs", 1, home=home, isa="scalar")
    assert code == 0, err
    text = out.decode()
    assert "scalar" in text.splitlines()[0] and "first token after" in text.splitlines()[0]
    assert re.search(r"^prefill      4 tokens +\d+\.\d\d tokens/s ", text, re.M)
    assert re.search(r"^decode       4 tokens at 9 +\d+\.\d\d tokens/s ", text, re.M)
    assert re.search(r"^decode       4 tokens of each of 2 +\d+\.\d\d tokens/s ", text, re.M)
    assert "layers 0 to 2, kernels matmul.F32=scalar" in text
    assert "layers 3 to 4, kernels matmul.F32=scalar" in text
    assert "avx" not in text


# ---- chat ----

def test_chat_once(home, pair):
    ask = ["chat", "--url", pair.url, "--max-tokens", 12, "--temperature", 0]
    code, said, err = run("paceline", *ask, "Hello!", home=home)
    assert code == 0 and said.strip()
    code, piped, _ = run("paceline", *ask, home=home, stdin=b"Hello!\n")
    assert code == 0 and piped == said
    status, answer = pair.post("/v1/chat/completions", {
        "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 12, "temperature": 0})
    text = answer["choices"][0]["message"]["content"]
    assert status == 200 and said.decode() == "".join(
        c for c in text if c >= " " or c in "\n\t") + "\n"
    code, other, _ = run("paceline", *ask, "--system", "Speak otherwise.", "Hello!", home=home)
    assert code == 0 and other.endswith(b"\n")


def test_chat_seed(home, pair):
    ask = ["chat", "--url", pair.url + "/v1", "--max-tokens", 30, "--temperature", 1.5, "Hello!"]
    first = run("paceline", *ask, "--seed", 5, home=home)[1]
    assert run("paceline", *ask, "--seed", 5, home=home)[1] == first
    assert run("paceline", *ask, "--seed", 6, home=home)[1] != first


def test_chat_with_its_own_cluster(home):
    code, out, err = run("paceline", "chat", "--model", MODEL, "--workers", 2, "--max-tokens", 5,
                         "Hello!", home=home)
    assert code == 0 and out.strip(), err


def test_chat_without_a_server(home):
    code, out, err = run("paceline", "chat", "--url", "http://127.0.0.1:9", "Hello!", home=home)
    assert code == 4 and not out
    for word in ("http://127.0.0.1:9", "paceline up", "--model"):
        assert word in the_sentence(err)


def test_chat_server_or_model(home, tmp_path, pair):
    """--url wins over a model of the environment or the file, but not over --model."""
    ask = ["chat", "--max-tokens", 3, "--models-file", ROOT / "deploy" / "models.cfg", "Hello!"]
    config = tmp_path / "paceline.cfg"
    config.write_text('chat: { model = "no-such-model"; };\n')
    wrong = {"PACELINE_MODEL": "no-such-model"}
    for options, env in (([], wrong), (["--config", config], {})):
        code, out, err = run("paceline", *ask, *options, "--url", pair.url, home=home, env=env)
        assert code == 0 and out.strip(), err
        code, out, err = run("paceline", *ask, *options, home=home, env=env)
        assert code == 3 and "no-such-model" in the_sentence(err)
    code, out, err = run("paceline", *ask, "-u", pair.url, "-m", MODEL, home=home)
    assert code == 1 and not out and "--url" in the_sentence(err) and "--model" in err


def test_chat_in_a_terminal(home, pair):
    """A conversation, as a person at a terminal has it: two answers, a command, Ctrl-D."""
    child, terminal = pty.fork()
    if child == 0:
        env = environment(home, TERM="xterm", LC_ALL="C.UTF-8")
        os.execve(PROGRAMS / "paceline", ["paceline", "chat", "--url", pair.url, "--max-tokens",
                                          "8", "--temperature", "0"], env)
    screen = b""

    def read_until(words, count=1):
        nonlocal screen
        end = time.monotonic() + 20
        while screen.count(words) < count:
            assert time.monotonic() < end, screen
            if select.select([terminal], [], [], 0.1)[0]:
                screen += os.read(terminal, 65536)
    try:
        read_until(b"> ")
        os.write(terminal, b"Hello!\n")
        read_until(b"was cut")
        os.write(terminal, b"/help\n")
        read_until(b"Ctrl-C stops an answer")
        os.write(terminal, b"And again?\n")
        read_until(b"was cut", 2)
        os.write(terminal, b"/retry\n")
        read_until(b"was cut", 3)
        os.write(terminal, b"One line \\\nand another\n")
        read_until(b"was cut", 4)
        os.write(terminal, b'"""a block\nof lines"""\n')
        read_until(b"was cut", 5)
        time.sleep(0.2)
        os.write(terminal, b"\x04")
        assert wait_until(lambda: os.waitpid(child, os.WNOHANG)[0], 10, "Ctrl-D ends it")
    finally:
        os.close(terminal)
    history = home / "chat_history"
    assert "And again?" in history.read_text().replace("\\040", " ")
    assert history.stat().st_mode & 0o077 == 0


# ---- signals ----

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_verbs_leave_nothing(home, tmp_path, number):
    mark = f"interrupted-{number}"
    env = environment(home, isa="scalar", SYSTEM_TEST_MARK=mark)
    process = Process("paceline", ["bench", MODEL, "--workers", "2", "-p", "1000", "-n", "500",
                                   "--runs", "1000"], tmp_path / "log", env)
    try:
        wait_until(lambda: len(survivors(mark)) == 4, 20, "coordinator and workers live")
        time.sleep(0.3)
        process.signal(number)
        assert process.wait(10) != 0
    finally:
        if process.is_alive():
            process.popen.kill()
    wait_until(lambda: not survivors(mark), 5, "all of them are gone")


def test_killed_verb_takes_its_cluster_along(home, tmp_path):
    mark = "killed-verb"
    process = Process("paceline", ["bench", MODEL, "--workers", "2", "--runs", "1000"],
                      tmp_path / "log", environment(home, SYSTEM_TEST_MARK=mark))
    wait_until(lambda: len(survivors(mark)) == 4, 20, "coordinator and workers live")
    process.popen.kill()
    process.popen.wait()
    wait_until(lambda: not survivors(mark), 10, "all of them are gone")


def test_pipes_that_break(home):
    """A reader that has had enough: no message of a crash."""
    command = f"{PROGRAMS}/paceline tokenize --help | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=environment(home), capture_output=True,
                          timeout=20, check=False)
    assert done.stdout.startswith(b"Usage:") and not done.stderr
