"""paceline trace: the steps of a real pipeline, as a trace that a viewer can open."""
import collections
import json
import signal
import subprocess
import threading

import pytest

from cluster import PROGRAMS, Cluster, environment, free_port_pair, model_path, run, wait_until

MODEL = model_path("qwen2-tied-Q8_0")
WORK = {"prompt": "Once upon a time", "max_tokens": 400, "n": 4, "seed": 1, "ignore_eos": True}


@pytest.fixture(scope="module")
def cluster(home):
    with Cluster(home, MODEL, workers=2) as c:
        wait_until(lambda: is_timed(c), 10, "the clocks are compared")
        yield c


def is_timed(c):
    stages = c.get("/cluster/trace")[1]["stages"]
    return stages and all(s["clock_offset_us"] is not None for s in stages)


class Traffic:
    """Requests one after the other, as long as the block runs."""

    def __init__(self, c):
        self.c, self.ends = c, threading.Event()
        self.thread = threading.Thread(target=self.work)

    def work(self):
        while not self.ends.is_set():
            self.c.post("/v1/completions", WORK)

    def __enter__(self):
        self.thread.start()
        wait_until(self.c.running, 10, "a request is under way")

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()


def trace(c, path, *options, seconds=1):
    return run("paceline", "trace", "--config", "/dev/null", "--url", c.url, "--seconds", seconds,
               "--output", path, *options, home=c.home)


def read(path):
    """The trace, after what holds for every one."""
    whole = json.loads(path.read_text() if hasattr(path, "read_text") else path)
    events = whole["traceEvents"]
    assert all(isinstance(e["ts"], int) and e["ts"] >= 0 for e in events)
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)
    ends = collections.defaultdict(int)
    for e in of(events, "X"):
        assert e["ts"] >= ends[e["pid"]], "slices of a stage overlap"
        ends[e["pid"]] = e["ts"] + e["dur"]
    depth = 0
    for e in events:
        depth += {"b": 1, "e": -1}.get(e["ph"], 0)
        assert depth >= 0
        if e["ph"] == "C":
            assert e["args"]["steps"] == depth
    assert depth == 0
    return whole, events


def of(events, kind):
    return [e for e in events if e["ph"] == kind]


def names(events):
    return {e["pid"]: e["args"]["name"] for e in of(events, "M") if e["name"] == "process_name"}


def test_every_step_has_its_two_slices(cluster, tmp_path):
    with Traffic(cluster):
        code, out, errors = trace(cluster, tmp_path / "t.json")
    assert code == 0, errors
    whole, events = read(tmp_path / "t.json")
    workers = cluster.get("/cluster")[1]["workers"]
    assert sorted(names(events).values()) == sorted(["coordinator"] + [
        f"stage {w['stage']}: {w['name']}, layers {w['layers'][0]}-{w['layers'][1] - 1}"
        for w in workers])
    stage_of = {pid: int(name.split()[1][:-1]) for pid, name in names(events).items()
                if name.startswith("stage")}
    steps = collections.defaultdict(dict)
    for e in of(events, "X"):
        a = e["args"]
        assert a["rows"] == a["decode_rows"] + a["prefill_rows"] >= a["sequences"] >= 1
        kind = "decode" if not a["prefill_rows"] else "mixed" if a["decode_rows"] else "prefill"
        assert e["name"].split()[0] == kind
        steps[a["step"]][stage_of[e["pid"]]] = e
    spans = {e["args"]["step"]: e["ts"] for e in of(events, "b")}
    assert len(spans) == whole["otherData"]["steps"] > 10 and set(steps) == set(spans)
    uncertain = sum(w["clock_uncertainty_us"] for w in workers)
    for number, stages in steps.items():
        assert set(stages) == {0, 1}
        first, last = stages[0], stages[1]
        assert spans[number] <= first["ts"]
        assert first["ts"] + first["dur"] <= last["ts"] + uncertain + 1
    for kind in "sf":
        assert len(of(events, kind)) == len(steps)
    assert any(e["args"]["decode_rows"] > 1 for e in of(events, "X"))
    table = [line.split() for line in out.decode().splitlines() if line[:1].isdigit()][1:]
    assert [row[:2] for row in table] == [["0", "w1"], ["1", "w2"]]
    for row in table:
        assert 0 < float(row[3]) <= 100 and 0 <= float(row[7]) <= 100 and float(row[5]) > 0


def test_clocks_of_one_machine_agree(cluster):
    for w in cluster.get("/cluster")[1]["workers"]:
        assert abs(w["clock_offset_us"]) <= w["clock_uncertainty_us"]


def test_nothing_happens_and_the_trace_is_empty(cluster):
    wait_until(lambda: cluster.running() == 0, 30, "nothing runs")
    code, out, errors = trace(cluster, "-")
    assert code == 0, errors
    whole, events = read(out)
    assert whole["otherData"]["steps"] == 0 and {e["ph"] for e in events} == {"M"}
    assert len(names(events)) == 3
    assert "no step came in 1." in errors and "w2" in errors  # the table


def test_a_cursor_takes_every_step_once(cluster):
    begin = cluster.get("/cluster/trace")[1]
    assert begin["steps"] == [] and begin["lost"] == 0 and not begin["more"]
    cluster.post("/v1/completions", WORK)
    numbers, after, more = [], begin["next"], True
    while more:
        status, answer = cluster.get(f"/cluster/trace?after={after}")
        assert status == 200 and answer["lost"] == 0 and answer["next"] >= after
        numbers += [s["step"] for s in answer["steps"]]
        after, more = answer["next"], answer["more"]
    assert len(numbers) >= 400
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    for bad in ("", "x", "-1", "1x", "99999999999999999999"):
        status, answer = cluster.get(f"/cluster/trace?after={bad}")
        assert status == 400 and answer["error"]["param"] == "after"
    status, answer = cluster.get("/cluster/trace?after=99999999")
    assert status == 200 and answer["next"] == after and answer["steps"] == []


def test_ctrl_c_writes_what_has_come(cluster, tmp_path):
    path = tmp_path / "t.json"
    with Traffic(cluster):
        p = subprocess.Popen([PROGRAMS / "paceline", "trace", "--config", "/dev/null", "--url",
                              cluster.url, "--seconds", "60", "--output", path],
                             env=environment(cluster.home), stderr=subprocess.PIPE)
        p.stderr.readline()  # it is recording
        p.send_signal(signal.SIGINT)
        assert p.wait(timeout=10) == 0
        p.stderr.close()
    read(path)


def test_no_server(home, tmp_path):
    code, _, errors = run("paceline", "trace", "--config", "/dev/null", "--url",
                          f"127.0.0.1:{free_port_pair()}", "--output", tmp_path / "t.json",
                          home=home)
    assert code == 4 and not (tmp_path / "t.json").exists(), errors


def test_a_key_is_needed(home, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret\n")
    keys.chmod(0o600)
    with Cluster(home, MODEL, workers=0, options=["--api-key-file", keys]) as c:
        assert c.get("/cluster/trace")[0] == 401
        assert trace(c, tmp_path / "t.json")[0] == 1
        code, _, errors = trace(c, tmp_path / "t.json", "--api-key-file", keys)
        assert code == 0, errors
        read(tmp_path / "t.json")


def test_a_worker_dies_meanwhile(home, tmp_path):
    with Cluster(home, MODEL, workers=3, joined=2) as c:
        with Traffic(c):
            killer = threading.Timer(0.7, c.workers[0].signal, [signal.SIGKILL])
            killer.start()
            code, _, errors = trace(c, tmp_path / "t.json", seconds=6)
            killer.join()
        assert code == 0, errors
        whole, events = read(tmp_path / "t.json")
        assert whole["otherData"]["steps"] > 0
        assert len({e["args"]["epoch"] for e in of(events, "b")}) == 2
        c.close(check=False)
