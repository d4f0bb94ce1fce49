"""Workers that come and go while the others serve: nothing is lost, nothing changes, and no answer
waits for a load."""

import signal
import time

from cluster import Cluster, run, wait_until
from test_recovery import MODEL, STORY, Story, told_while, undisturbed  # noqa: F401


def serving(c):
    """Names in pipeline order."""
    return [w["name"] for w in c.get("/cluster")[1]["workers"] if w["stage"] is not None]


def state(c, name):
    return {w["name"]: w["state"] for w in c.get("/cluster")[1]["workers"]}.get(name)


def in_service_without(c, name):
    return lambda: name not in serving(c) and c.get("/health")[0] == 200


def test_a_new_worker_takes_its_share(home, undisturbed):  # noqa: F811
    with Cluster(home, MODEL, workers=1) as c:
        epoch = c.get("/cluster")[1]["epoch"]

        def join():
            c.add_worker()
            wait_until(lambda: serving(c) == ["w1", "w2"], 15, "both serve")
        assert told_while(c, join) == undisturbed
        after = c.get("/cluster")[1]
        assert after["epoch"] > epoch and after["stages"] == 2 and after["change"] is None
        layers = [w["layers"] for w in after["workers"]]
        assert layers[0][1] == layers[1][0] and layers[1][1] == after["layers"]
        # Never out of service: the first worker kept its layers all the while.
        assert "planning anew" not in c.coordinator.text()


def test_drained_and_used_again(home, undisturbed):  # noqa: F811
    with Cluster(home, MODEL, workers=2) as c:
        def drain():
            assert c.post("/cluster/drain", {"worker": "w1"})[0] == 200
            wait_until(in_service_without(c, "w1"), 15, "w2 serves alone")
        assert told_while(c, drain) == undisturbed
        assert state(c, "w1") == "drained"
        status, answer = c.post("/cluster/drain", {"worker": "w2"})
        assert status == 503 and "No other worker" in answer["error"]["message"]
        assert c.post("/cluster/drain", {"worker": "w1"})[0] == 200  # it is
        assert c.post("/cluster/drain", {"worker": "nobody"})[0] == 404
        assert c.post("/cluster/drain", {})[0] == 400

        def resume():
            assert c.post("/cluster/resume", {"worker": "w1"})[0] == 200
            wait_until(lambda: len(serving(c)) == 2, 15, "both serve")
        assert told_while(c, resume) == undisturbed
        assert "planning anew" not in c.coordinator.text()


def test_a_worker_that_is_stopped_hands_over_first(home, undisturbed):  # noqa: F811
    with Cluster(home, MODEL, workers=2) as c:
        def stop():
            c.workers[0].signal(signal.SIGTERM)
            assert c.workers[0].wait(15) == 0
            assert serving(c) == ["w2"]
        assert told_while(c, stop) == undisturbed
        assert "planning anew" not in c.coordinator.text()


def test_the_last_worker_may_go_at_once(home):
    with Cluster(home, MODEL, workers=1) as c:
        began = time.monotonic()
        c.workers[0].signal(signal.SIGTERM)
        assert c.workers[0].wait(15) == 0
        assert time.monotonic() - began < 10
        wait_until(lambda: c.get("/health")[0] == 503, 10, "out of service")


def test_a_join_that_comes_to_nothing_disturbs_nobody(home, undisturbed):  # noqa: F811
    """The new worker dies while it loads, or cannot load: the plan in service goes on."""
    with Cluster(home, MODEL, workers=1) as c:
        def join():
            worker = c.add_worker()
            worker.popen.kill()
            worker.popen.wait()
            wait_until(lambda: state(c, "w2") is None, 15, "it is taken for lost")
        assert told_while(c, join) == undisturbed
        assert serving(c) == ["w1"] and c.get("/cluster")[1]["change"] is None


def test_two_stages_do_not_fit_and_the_drained_one_goes_all_the_same(home, undisturbed):  # noqa: F811
    """Too little memory to make the next stage ready beside the one that serves: a pause, then."""
    much = ["--kv-tokens", "100000"]
    with Cluster(home, MODEL, workers=1, options=much) as c:
        need = c.get("/cluster")[1]["workers"][0]["memory_claimed"]
    offered = need + (24 << 20)
    assert need * 3 // 2 > offered
    with Cluster(home, MODEL, workers=2, options=much,
                 worker_options=["--memory", str(offered)]) as c:
        def drain():
            assert c.post("/cluster/drain", {"worker": "w1"})[0] == 200
            wait_until(in_service_without(c, "w1"), 15, "w2 serves alone")
        assert told_while(c, drain) == undisturbed
        assert "beside" in c.coordinator.text()


def test_the_command(home):
    with Cluster(home, MODEL, workers=2) as c:
        code, out, err = run("paceline", "drain", "w1", "--url", c.url, home=home)
        assert code == 0, err
        assert b"w1" in out and state(c, "w1") == "drained" and serving(c) == ["w2"]
        code, out, err = run("paceline", "drain", "w1", "--resume", "--url", c.url, home=home)
        assert code == 0, err
        wait_until(lambda: len(serving(c)) == 2, 15, "both serve")
        code, _, err = run("paceline", "drain", "nobody", "--url", c.url, home=home)
        assert code != 0 and "nobody" in err
        code, _, err = run("paceline", "drain", "--url", c.url, home=home)
        assert code == 1 and "WORKER" in err
