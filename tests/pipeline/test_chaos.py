"""Faults of every kind in an order that a seed decides, under traffic; tests/chaos is the long one. And
two of them alone, looked at closely."""

import re
import signal
import threading
import time

import pytest

import chaos_run
import hosts
from chaos_clients import Traffic, make_questions
from chaos_machines import Place
from cluster import free_port_pair, wait_until

SILENCE_S = 1.5  # a busy machine is not always heard in time


@pytest.fixture(autouse=True)
def may_make_hosts():
    reason = hosts.impossible()
    if reason:
        pytest.skip(reason)


def test_a_run(tmp_path):
    """All kinds but the longest, which is the next test's."""
    report = chaos_run.run(tmp_path, count=16, gap_s=0.8, seed=324, clients=6,
                           silence_s=SILENCE_S)
    print(chaos_run.words(report))
    assert chaos_run.is_good(report), chaos_run.words(report)
    assert all(report["answers"].values())


def place_of(tmp_path, network, memory, cuts="2", **how):
    return Place(tmp_path / "place", chaos_run.MODEL, network, free_port_pair(1), cuts,
                 options=chaos_run.OPTIONS, memory=memory, silence_s=SILENCE_S, **how)


def steps_computed(log):
    """[(epoch, step)] in the order of a worker's log."""
    return re.findall(r"step computed .*epoch=(\d+) .*step=(\d+)", log)


def partition_in_turn(place, machines, pause_s=1, away_s=10):
    """Each is gone for so long, and the next one goes before it is back."""
    for m in machines:
        epoch = place.state()["epoch"]
        place.network.plug(m.number, False)
        wait_until(lambda e=epoch: place.serves() and place.state()["epoch"] > e, 30, "others serve")
        time.sleep(pause_s)
    time.sleep(away_s - pause_s)
    for m in machines:
        place.network.plug(m.number)
    for m in machines:
        wait_until(m.is_here, 60, f"{m.name} is back")


def test_partitions_that_heal_after_10_s(tmp_path):
    """The first stage's, then the last one's: nothing is computed twice for anybody, and no token of
    before is given to anybody."""
    questions = make_questions(8, seed=3)
    memory = chaos_run.prepare(tmp_path, questions)
    with hosts.Network(4) as network, \
         place_of(tmp_path, network, memory, worker_options=["--verbose"]) as place:
        place.start()
        traffic = Traffic(place, questions, 6, seed=3, hung_s=90)
        traffic.start()
        wait_until(lambda: sum(traffic.answers.values()) > 5, 60, "answers come")
        partition_in_turn(place, [m for m in place.machines if m.name in stages(place)])
        answers = sum(traffic.answers.values())
        wait_until(lambda: sum(traffic.answers.values()) > answers + 10, 60, "more answers")
        traffic.stop()
        assert not (traffic.wrong or traffic.lost or traffic.hung), \
            (traffic.wrong[:1], traffic.lost, traffic.hung)
        # Each token was taken from a step once: what was replayed is counted as prompt.
        assert place.state()["generated_tokens"] == traffic.n_tokens
        for one in place.machines:
            steps = steps_computed(one.worker.text())
            assert steps and len(steps) == len(set(steps)), f"{one.name} computed a step twice"
        assert place.stop() == []


def stages(place):
    """Who computes, in the order of the pipeline."""
    return [w["name"] for w in place.state()["workers"] if w["stage"] is not None]


def test_a_coordinator_that_is_restarted_has_its_workers_at_once(tmp_path):
    """They keep their weights: nothing is loaded, fetched or packed again."""
    questions = make_questions(8, seed=4)
    memory = chaos_run.prepare(tmp_path, questions)
    with hosts.Network(3) as network, place_of(tmp_path, network, memory) as place:
        place.start()
        # The third one packs beforehand what it may once be asked for.
        wait_until(lambda: any((w["standby"] or {}).get("ready")
                               for w in place.state()["workers"]), 60, "the standby is ready")
        for number in (signal.SIGKILL, signal.SIGTERM):
            logs = [len(m.worker.text()) for m in place.machines]
            before = stages(place)
            late = [m.worker for m in place.machines if m.name in before]
            for worker in late:  # who stands by knocks before those who have the stages
                worker.stand_still()
            threading.Timer(0.8, lambda late=late: [w.signal(signal.SIGCONT) for w in late]).start()
            place.restart_coordinator(number)
            assert place.restarts_s[-1] < 3 + 6, place.text()  # 3 s, on a machine that has time
            state = place.state()
            assert stages(place) == before
            assert all(w["load_total"] == 0 for w in state["workers"] if w["stage"] is not None)
            for m, seen in zip(place.machines, logs):
                assert "fetched" not in m.worker.text()[seen:], m.worker.text()
        assert place.stop() == []


def test_an_epoch_is_used_once(tmp_path):
    """However soon a coordinator follows another: what is on its way from one is not for the next."""
    with hosts.Network(1) as network, place_of(tmp_path, network, "1GiB", cuts=None) as place:
        place.start()
        for _ in range(4):
            epoch = place.state()["epoch"]
            place.restart_coordinator(signal.SIGKILL)
            assert place.state()["epoch"] > epoch
        assert place.stop() == []
