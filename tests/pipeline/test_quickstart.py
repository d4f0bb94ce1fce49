"""deploy/quickstart, the first command of a new user, with the real default model."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import urllib.request

import pytest

from cluster import MARK, PROGRAMS, QUICKSTART, ROOT, survivors, wait_until

MODEL = "qwen2.5-coder-0.5b"


def user_environment(mark):
    """That of the user who runs the tests: a model that is there already is used."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith("PACELINE_") or k == "PACELINE_HOME"}
    env[MARK] = mark
    return env


@pytest.fixture(scope="module")
def model():
    """The default model's file, fetched if it is not there; without a source nothing is tested."""
    done = subprocess.run([PROGRAMS / "paceline", "fetch", MODEL, "--models-file",
                           ROOT / "deploy" / "models.cfg"], env=user_environment("fetch"),
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=1500,
                          check=False)
    if done.returncode == 4:
        pytest.skip("no source of the default model answers:\n" + done.stderr)
    assert done.returncode == 0, done.stderr
    path = pathlib.Path(done.stdout.strip())
    assert path.stat().st_size == 491400064
    return path


@pytest.fixture(scope="module")
def built(model):
    """The first call may configure and build; the second shows what a user with all of it sees."""
    return start("Say hello.", 1500)


def start(prompt, limit_s, *options):
    mark, began = f"quickstart-{os.getpid()}", time.monotonic()
    done = subprocess.run([QUICKSTART, "--once", prompt, *options], env=user_environment(mark),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=limit_s, check=False)
    took = time.monotonic() - began
    wait_until(lambda: not survivors(mark), 5, "all of its processes are gone")
    return done, took


def test_once(built):
    done, _ = built
    assert done.returncode == 0, done.stderr
    answer = done.stdout.strip()
    assert re.search(r"[Hh]ello|[Hh]i\b|assist|help", answer), answer


def test_once_again(built):
    """All is there: the answer, and only it, on standard output; what it waits for beside."""
    done, took = start("What is 2 + 2? Answer with one number.", 120)
    assert done.returncode == 0, done.stderr
    assert "4" in done.stdout
    assert "ready" not in done.stdout and "http" not in done.stdout
    print(f"second quickstart: {took:.1f} s")


def test_it_waits_until_ctrl_c(built, tmp_path):
    """Without --once: a first answer, what to try next, and a server until Ctrl-C."""
    mark = f"quickstart-waits-{os.getpid()}"
    log = tmp_path / "log"
    with open(log, "wb") as out:
        p = subprocess.Popen([QUICKSTART, "--http", "127.0.0.1:0"], env=user_environment(mark),
                             stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                             start_new_session=True)
    try:
        wait_until(lambda: "Ctrl-C stops everything" in log.read_text(errors="replace")
                   or p.poll() is not None, 180, "it says how to stop it")
        text = log.read_text(errors="replace")
        assert p.poll() is None, text
        url = re.search(r"Serving at (http://127\.0\.0\.1:\d+) ", text)[1]
        assert f"chat --url {url}\n" in text and f"curl {url}/v1/chat/completions" in text
        first = text.split("> Write a C function", 1)[1].split("Serving at")[0]
        assert "char" in first, first
        with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:
            assert answer.status == 200
        assert len(survivors(mark)) >= 4
        os.killpg(p.pid, signal.SIGINT)  # as a terminal does
        assert p.wait(30) in (0, 130)
        wait_until(lambda: not survivors(mark), 5, "all of its processes are gone")
    finally:
        if p.poll() is None:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()


@pytest.mark.parametrize("options, words", [
    (["--onec", "x"], "unknown option --onec"),
    (["--once"], "--once needs a prompt, as in --once 'Say hello'"),
    (["--once", ""], "--once needs a prompt, as in --once 'Say hello'"),
    (["--model"], "--model needs a value"),
    (["--workers", "0"], "--workers 0 is not a number from 1 to 256"),
    (["--workers", "2x"], "--workers 2x is not a number"),
    (["--workers", "257"], "--workers 257 is not a number"),
], ids=lambda x: " ".join(x) if isinstance(x, list) else "")
def test_wrong_options(options, words):
    done = subprocess.run([QUICKSTART, *options], env=user_environment("none"),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 1 and done.stdout == "" and words in done.stderr


def write_script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/bash\n" + text)
    path.chmod(0o755)


def test_progress_of_the_build(tmp_path):
    """A tree of its own with a cmake that takes its time: in a log a line every ten seconds, with the
    end of what the build said."""
    shutil.copytree(QUICKSTART.parent, tmp_path / "deploy")
    write_script(tmp_path / "deploy" / "install-packages", "")
    write_script(tmp_path / "bin" / "cmake", """
        [ "$1" = --build ] || exit 0
        for i in {1..125}; do
            echo "[$i/125] Building C object a/long/way/to/CMakeFiles/the_file.dir/in_question.c.o"
            sleep 0.14
        done""")
    write_script(tmp_path / "build" / "bin" / "paceline", """
        case $1 in
            fetch) echo model.gguf ;;
            up) echo ready http://127.0.0.1:1 model=x; exec sleep 60 ;;
            chat) echo Bonjour ;;
        esac""")
    env = user_environment("fakes")
    env["PATH"] = f"{tmp_path / 'bin'}:{env['PATH']}"
    done = subprocess.run([tmp_path / "deploy" / "quickstart", "--once", "Say hello"], env=env,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          check=False)
    assert done.returncode == 0 and done.stdout == "Bonjour\n", done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("building ")]
    assert len(lines) == 2, done.stderr
    for line, second in zip(lines, (2, 12)):
        match = re.fullmatch(r"building \((\d+) s\) \[\d+/125\] \.\.\.(.*)", line)
        assert match and int(match[1]) in (second, second + 1, second + 2), line
        assert match[2].endswith("/CMakeFiles/the_file.dir/in_question.c.o") and len(line) < 80
