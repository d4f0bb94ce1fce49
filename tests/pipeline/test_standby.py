"""Workers without a stage pack layers beforehand: who is lost is replaced without loading."""

import json

from cluster import Cluster, run, wait_until
from test_recovery import MODEL, kill, told_while, undisturbed  # noqa: F401


def about(c, name):
    return next(w for w in c.get("/cluster")[1]["workers"] if w["name"] == name)


def stages(c):
    """[(name, layers)] in pipeline order."""
    return [(w["name"], w["layers"]) for w in c.get("/cluster")[1]["workers"]
            if w["stage"] is not None]


def holds(c, name, layers):
    return lambda: about(c, name)["standby"] == {"layers": layers, "ready": True}


def test_a_standby_takes_the_place_of_who_is_lost(home, undisturbed):  # noqa: F811
    """Whichever that is: it has the whole model, and the others keep what they have."""
    with Cluster(home, MODEL, workers=3, joined=3, cuts="2") as c:
        n = c.get("/cluster")[1]["layers"]
        assert stages(c) == [("w1", [0, 2]), ("w2", [2, n])]
        wait_until(holds(c, "w3", [0, n]), 15, "it holds the whole model")
        assert about(c, "w3")["state"] == "standby" and about(c, "w3")["memory_claimed"] > 0
        assert about(c, "w1")["standby"] is None
        code, out, err = run("paceline", "workers", "--url", c.url, home=home)
        assert code == 0, err
        assert f"(0-{n - 1})" in next(line for line in out.decode().splitlines() if "w3" in line)
        assert told_while(c, kill(c.workers[0])) == undisturbed
        assert stages(c) == [("w3", [0, 2]), ("w2", [2, n])]


def test_with_too_little_memory_it_holds_a_stage(home, undisturbed):  # noqa: F811
    """The larger one; that one's loss is replaced, then the others are asked for what is left."""
    with Cluster(home, MODEL, workers=2, joined=2, cuts="1") as c:
        n = c.get("/cluster")[1]["layers"]
        room = [w["memory_claimed"] for w in c.get("/cluster")[1]["workers"]]
        assert room[1] > room[0]
        c.add_worker("--memory", str(room[1] + (256 << 10)))
        wait_until(holds(c, "w3", [1, n]), 15, "it holds the second stage")
        c.add_worker("--memory", str(room[1] + (256 << 10)))
        wait_until(holds(c, "w4", [0, 1]), 15, "the next one holds the first")
        assert told_while(c, kill(c.workers[1])) == undisturbed
        assert stages(c) == [("w1", [0, 1]), ("w3", [1, n])]
        wait_until(holds(c, "w4", [0, 1]), 15, "it holds what it held")


def test_a_drained_standby_lets_go(home):
    with Cluster(home, MODEL, workers=3, joined=3, cuts="2") as c:
        n = c.get("/cluster")[1]["layers"]
        wait_until(holds(c, "w3", [0, n]), 15, "it holds the whole model")
        assert c.post("/cluster/drain", {"worker": "w3"})[0] == 200
        wait_until(lambda: about(c, "w3")["standby"] is None, 15, "it lets go")
        assert c.post("/cluster/resume", {"worker": "w3"})[0] == 200
        wait_until(holds(c, "w3", [0, n]), 15, "it holds the whole model again")


def test_nothing_is_packed_when_it_is_switched_off(home, undisturbed):  # noqa: F811
    options = ["--standby-preload", "off"]
    with Cluster(home, MODEL, workers=3, joined=3, cuts="2", options=options) as c:
        assert told_while(c, kill(c.workers[0])) == undisturbed
        assert all(w["standby"] is None for w in c.get("/cluster")[1]["workers"])
        assert "beforehand" not in c.workers[2].text()
        code, out, _ = run("paceline", "workers", "--json", "--url", c.url, home=home)
        assert code == 0 and {w["name"] for w in json.loads(out)["workers"]} == {"w2", "w3"}
