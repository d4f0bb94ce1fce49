"""A worker that is lost again and again is kept out for growing periods, and is told so."""

from cluster import Cluster, run, wait_until
from test_recovery import MODEL, kill
from test_standby import about, stages


def test_kept_out_and_let_in_again(home):
    with Cluster(home, MODEL, workers=1) as c:
        def start(times):
            worker = c.start_worker("flap")
            wait_until(lambda: c.coordinator.text().count("flap joined") == times, 30, "joined")
            return worker

        def serves():
            return [name for name, _ in stages(c)] == ["w1", "flap"]

        def lose(worker):
            kill(worker)()
            wait_until(lambda: [name for name, _ in stages(c)] == ["w1"] and
                       c.get("/health")[0] == 200, 30, "w1 serves alone")

        for times in (1, 2):  # the first loss costs nothing
            worker = start(times)
            wait_until(serves, 30, "both serve")
            lose(worker)
        worker = start(3)
        _, out, err = run("paceline", "workers", "--url", c.url, home=home)
        flap = about(c, "flap")
        assert flap["state"] == "kept-out" and flap["stage"] is None and not flap["standby"]
        assert flap["kept_out"]["losses"] == 2 and 0 < flap["kept_out"]["seconds"] <= 5
        assert "kept-out" in next(l for l in out.decode().splitlines() if "flap" in l), err
        assert "plans do without it for 5 s" in c.coordinator.text()
        wait_until(lambda: "was lost 2 times in a row" in worker.text(), 10, "it is told")
        wait_until(serves, 60, "it is let in again")
        assert about(c, "flap")["kept_out"] is None


def test_it_is_used_where_nothing_serves_without_it(home):
    with Cluster(home, MODEL, workers=0, joined=1, wait=False) as c:
        for times in (1, 2, 3):
            worker = c.start_worker("flap")
            wait_until(lambda: c.coordinator.text().count("flap joined") == times, 30, "joined")
            c.wait_ready()
            assert c.post("/v1/completions", {"prompt": "x", "max_tokens": 2})[0] == 200
            if times < 3:
                kill(worker)()
                wait_until(lambda: c.get("/health")[0] == 503, 30, "nobody is here")
        assert about(c, "flap")["state"] == "serving"
        assert about(c, "flap")["kept_out"]["losses"] == 2
