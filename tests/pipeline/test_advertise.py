"""A worker that is reached at another address than the one it listens on."""
import json
import subprocess

import pytest

from cluster import PROGRAMS, Cluster, free_port_pair, model_path, run

MODEL = model_path("qwen2-tied-Q8_0")
BODY = {"prompt": "A line of riders", "max_tokens": 12, "temperature": 0, "return_token_ids": True}


def test_through_a_relay(home):
    with Cluster(home, MODEL) as c:
        alone = c.post("/v1/completions", BODY)[1]["choices"]
    port = free_port_pair()
    relay = subprocess.Popen([PROGRAMS / "delay_relay", f"127.0.0.1:{port + 1}", f"127.0.0.1:{port}",
                              "500"])
    try:
        with Cluster(home, MODEL, workers=1, joined=2, wait=False) as c:
            w = c.add_worker("--data", f"127.0.0.1:{port}", "--advertise", f"127.0.0.1:{port + 1}")
            c.wait_ready()
            assert port in w.listening_ports() and len(w.listening_ports()) == 2  # and weights'
            assert c.post("/v1/completions", BODY)[1]["choices"] == alone
            # No other way leads to it.
            relay.kill()
            relay.wait()
            body = json.dumps(BODY).encode()
            with pytest.raises(TimeoutError):
                c.request("POST", "/v1/completions", body=body, limit_s=1)
    finally:
        relay.kill()
        relay.wait()


def test_an_address_that_nobody_can_connect_to(home):
    code, _, err = run("paceline-worker", "--config", "/dev/null", "--advertise", "0.0.0.0:7000",
                       home=home)
    assert code == 2 and "advertise" in err
