"""Workers on somebody's desk: they take part while the owner is away, and are gone within 2 s when
the owner comes back. The owner is a file."""

import time

import pytest

from cluster import Cluster, run, the_sentence, wait_until
from test_membership import serving
from test_recovery import MODEL, told_while, undisturbed  # noqa: F401


def names(c):
    return [w["name"] for w in c.get("/cluster")[1]["workers"]]


def desk(home, owner):
    """Options of a worker whose owner is there while the file is."""
    owner.touch()
    return ["--policy", "idle", "--idle-load", "100", "--idle-after", "1", "--nice", "5",
            "--idle-probe", f"test ! -e {owner}"]


def wait_for_desk(c):
    wait_until(lambda: serving(c) == ["w1", "desk"], 30, "the desk serves")


def test_an_owner_comes_and_goes(home, undisturbed, tmp_path):  # noqa: F811
    owner = tmp_path / "owner"
    with Cluster(home, MODEL, workers=1) as c:
        worker = c.start_worker("desk", *desk(home, owner))
        wait_until(lambda: "off duty: the idle-probe" in worker.text(), 15, "it sees its owner")
        time.sleep(0.7)
        assert names(c) == ["w1"]  # it does not even knock
        owner.unlink()
        wait_for_desk(c)

        def come_back():
            owner.touch()
            wait_until(lambda: names(c) == ["w1"], 15, "it has gone")
        assert told_while(c, come_back) == undisturbed
        assert worker.is_alive() and c.get("/health")[0] == 200
        owner.unlink()
        wait_for_desk(c)
        # Time is taken where nothing else runs: the bound itself is not that of a loaded machine.
        began = time.monotonic()
        owner.touch()
        wait_until(lambda: names(c) == ["w1"], 15, "it has gone")
        assert time.monotonic() - began < 5
        memory = next(int(line.split()[1]) for line in
                      open(f"/proc/{worker.pid}/status") if line.startswith("RssAnon"))
        assert memory < 60_000  # kB: the layers are gone with it
        assert worker.stop() == 0


def test_the_only_worker_rests_and_requests_wait(home, undisturbed, tmp_path):  # noqa: F811
    owner = tmp_path / "owner"
    with Cluster(home, MODEL, workers=0) as c:
        worker = c.start_worker("desk", *desk(home, owner))
        owner.unlink()
        c.wait_ready()

        def away_for_a_moment():
            owner.touch()
            wait_until(lambda: names(c) == [], 15, "it has gone")
            owner.unlink()
        assert told_while(c, away_for_a_moment) == undisturbed
        assert worker.stop() == 0


def test_outside_its_hours_a_worker_rests(home):
    day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    other = day[(time.localtime().tm_wday + 3) % 7]
    with Cluster(home, MODEL, workers=1) as c:
        worker = c.start_worker("desk", "--hours", other)
        wait_until(lambda: "outside the hours" in worker.text(), 15, "it says so")
        time.sleep(0.7)
        assert names(c) == ["w1"]
        assert worker.stop() == 0


@pytest.mark.parametrize("options, words", [
    (["--hours", "at night"], "mon-fri"),
    (["--policy", "sometimes"], "always"),
    (["--policy", "idle", "--numa"], "numa"),
])
def test_what_is_wrong_is_told(home, options, words):
    code, _, err = run("paceline-worker", "--config", "/dev/null", *options, home=home)
    assert code in (1, 2) and words in the_sentence(err)
