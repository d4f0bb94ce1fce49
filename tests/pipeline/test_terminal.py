"""What the terminal shows of a running server - status, top - and what the shells complete."""

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

from cluster import PROGRAMS, Cluster, environment, model_path, run

COMPLETION = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "completion"
MODEL = model_path("qwen2-tied-Q8_0")


def ask(*words, **more):
    code, out, err = run(*words, **more)
    return code, out.decode(), err if isinstance(err, str) else err.decode()


@pytest.fixture(scope="module")
def pair(home):
    with Cluster(home, MODEL, workers=2) as c:
        yield c


def test_status(home, pair):
    assert pair.post("/v1/completions", {"prompt": "ab", "max_tokens": 9, "ignore_eos": True})[0] == 200
    code, out, err = ask("paceline", "status", "--url", pair.url, home=home)
    assert code == 0 and not err
    assert "in service" in out and "0 running, 0 waiting" in out and re.search(r"\b9 generated", out)
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith("  w")}
    assert rows["w1"][1] == rows["w2"][1] == "serving"
    assert int(rows["w1"][2].split("-")[1]) + 1 == int(rows["w2"][2].split("-")[0])
    code, out, err = ask("paceline", "status", "--url", pair.url, "--json", home=home)
    assert code == 0 and '"generated_tokens": 9' in out


def test_status_of_what_does_not_serve(home):
    code, out, err = ask("paceline", "status", "--url", "http://127.0.0.1:9", home=home)
    assert code == 4 and not out and "127.0.0.1:9" in err
    with Cluster(home, MODEL, workers=0, wait=False) as c:
        code, out, err = ask("paceline", "status", "--url", c.url, home=home)
        assert code == 4 and "not in service" in out


def test_top_without_a_terminal(home, pair):
    code, out, err = ask("paceline", "top", "--url", pair.url, "--times", 2, "--interval", 0.2, home=home)
    assert code == 0 and not err
    first, second = out.split("model ")[1:]
    assert "since the start" in first and "tokens/s" in second and "\033" not in out


def test_top_in_a_terminal(home, pair):
    """It draws until q is pressed, and gives the screen and the keyboard back."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(PROGRAMS / "paceline", ["paceline", "top", "--url", pair.url, "--interval", "0.2"],
                  environment(home, TERM="xterm"))
    screen, end = b"", time.monotonic() + 30
    try:
        while screen.count(b"tokens/s") < 2:
            assert time.monotonic() < end, screen
            if select.select([terminal], [], [], 0.1)[0]:
                screen += os.read(terminal, 65536)
        assert b"q ends" in screen
        os.write(terminal, b"q")
        while b"\033[?1049l" not in screen:
            assert time.monotonic() < end, screen
            screen += os.read(terminal, 65536)
        while not os.waitpid(child, os.WNOHANG)[0]:
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        os.close(terminal)
    assert screen.startswith(b"\033[?1049h")


WANTED = [  # the words so far, what is offered, what is not
    (["paceline", "to"], {"top", "tokenize"}, {"up"}),
    (["paceline", "up", "--kv"], {"--kv", "--kv-tokens"}, {"--help"}),
    (["paceline", "up", "--kv", ""], {"f16", "f32", "q8_0"}, set()),
    (["paceline", "up", "qwen2.5-coder-0"], {"qwen2.5-coder-0.5b"}, {"qwen2.5-coder-1.5b"}),
    (["paceline-worker", "--thr"], {"--threads"}, set()),
    (["paceline-coordinator", "--objective", "l"], {"latency"}, {"balanced"}),
]


@pytest.mark.parametrize("words, offered, others", WANTED, ids=[" ".join(w[0]) for w in WANTED])
def test_bash_completes(home, words, offered, others):
    script = f"""source {COMPLETION}/paceline.bash
        COMP_WORDS=({' '.join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}
        _paceline_complete; printf '%s\\n' "${{COMPREPLY[@]}}\""""
    env = environment(home, PATH=f"{PROGRAMS}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert not done.stderr
    found = set(done.stdout.split())
    assert offered <= found and not others & found


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_zsh_completes(home, tmp_path):
    """In a real zsh: two keystrokes and Tab."""
    child, terminal = pty.fork()
    if child == 0:
        env = environment(home, TERM="xterm", PATH=f"{PROGRAMS}:{os.environ['PATH']}",
                          ZDOTDIR=str(tmp_path))
        os.chdir(tmp_path)
        os.execvpe("zsh", ["zsh", "-f", "-i"], env)
    screen, end = b"", time.monotonic() + 60

    def read_until(words):
        nonlocal screen
        while words not in screen:
            assert time.monotonic() < end, screen
            if select.select([terminal], [], [], 0.1)[0]:
                screen += os.read(terminal, 65536)
        screen = screen.split(words, 1)[1]
    try:
        os.write(terminal, f"fpath=({COMPLETION} $fpath); autoload -U compinit; compinit -u -D; "
                           "echo rea''dy\n".encode())
        read_until(b"ready")
        os.write(terminal, b"paceline tok\t")
        read_until(b"tokenize")
        os.write(terminal, b"\x15exit\n")
    finally:
        os.close(terminal)
        os.waitpid(child, 0)
