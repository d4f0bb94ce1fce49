"""The samples in deploy/ name every key, and every program refuses what it does not know."""
import os
import pathlib
import re
import subprocess

import pytest

BIN = pathlib.Path(os.environ.get("PACELINE_BIN", "build/bin")).resolve()
DEPLOY = pathlib.Path(__file__).resolve().parents[2] / "deploy"
VERBS = ["up", "fetch", "chat", "tokenize", "logits", "perplexity", "bench"]
PROGRAMS = [(["paceline-coordinator"], "coordinator.cfg"), (["paceline-worker"], "worker.cfg")]
PROGRAMS += [(["paceline", verb], "paceline.cfg") for verb in VERBS]
SHARED = re.compile(r"^#   (\w+) = .*;", re.M)  # of all verbs that start workers


def run(program, *arguments):
    command = [str(BIN / program[0]), *program[1:], *arguments]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)


def group(text, verb):
    """The part of paceline.cfg that belongs to a verb."""
    return re.search(r"^%s:\n\{\n(.*?)^\};" % verb, text, re.M | re.S).group(1)


@pytest.mark.parametrize("program, sample", PROGRAMS, ids=lambda x: "-".join(x) if isinstance(x, list) else "sample")
def test_sample_names_every_key(program, sample):
    text = (DEPLOY / sample).read_text()
    keys = set(re.findall(r"^ *(?:# )?(\w+) = ", run(program, "--print-config").stdout, re.M))
    own = group(text, program[1]) if len(program) > 1 else text
    named = set(re.findall(r"^ *#(\w+) = ", own, re.M))
    if len(program) > 1 and program[1] not in ("fetch", "tokenize"):
        named |= set(SHARED.findall(text))
    assert keys == named


@pytest.mark.parametrize("program, sample", PROGRAMS, ids=lambda x: "-".join(x) if isinstance(x, list) else "sample")
def test_sample_is_accepted_with_all_keys_set(tmp_path, program, sample):
    everything = tmp_path / "all.cfg"
    text = (DEPLOY / sample).read_text()
    everything.write_text(re.sub(r"^( *)#(\w+ = .*;)$", r"\1\2", text, flags=re.M))
    for path in (DEPLOY / sample, everything):
        result = run(program, "--config", str(path), "--print-config")
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("program, sample", PROGRAMS, ids=lambda x: "-".join(x) if isinstance(x, list) else "sample")
def test_unknown_key_is_refused_with_file_and_line(tmp_path, program, sample):
    bad = tmp_path / "bad.cfg"
    bad.write_text("%s: {\n frobnicate = 1; };\n" % program[1] if len(program) > 1
                   else "\nfrobnicate = 1;\n")
    result = run(program, "--config", str(bad), "--print-config")
    assert result.returncode == 2
    assert "%s:2: unknown key \"frobnicate\"; valid: " % bad in result.stderr


@pytest.mark.parametrize("program, sample", PROGRAMS, ids=lambda x: "-".join(x) if isinstance(x, list) else "sample")
def test_help_version_and_usage(program, sample):
    shown = run(program, "--help")
    assert shown.returncode == 0 and shown.stdout.startswith("Usage: " + " ".join(program))
    assert run(program, "--version").returncode == 0
    wrong = run(program, "--frobnicate")
    assert wrong.returncode == 1 and "--frobnicate" in wrong.stderr and wrong.stdout == ""


def test_verbs():
    assert run(["paceline"]).returncode == 1
    assert run(["paceline", "--help"]).stdout.startswith("Usage: paceline VERB")
    wrong = run(["paceline", "frobnicate"])
    assert wrong.returncode == 1 and "valid: up fetch" in wrong.stderr


def test_the_api_listens_at_a_numeric_address():
    result = run(["paceline-coordinator"], "--config", "/dev/null", "--model", "x", "--http", "foo:80")
    assert result.returncode == 1
    assert "--http: 'foo:80' is not a numeric address and a port" in result.stderr
