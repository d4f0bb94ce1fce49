"""The coordinator's HTTP door: whose web pages may ask."""

import json

import pytest

from cluster import Cluster, model_path

ASKED = {"content": "x"}


@pytest.fixture(scope="module")
def door(home):
    """Without workers: /tokenize needs none."""
    with Cluster(home, model_path("qwen2-tied-Q8_0"), workers=0,
                 options=["--cors-origin", "https://app.example,http://chat.example:3000"]) as c:
        yield c


def ask(cluster, headers, method="POST", path="/tokenize"):
    status, answered, data = cluster.request(method, path, headers=headers,
                                             body=json.dumps(ASKED).encode())
    return status, answered, json.loads(data) if data else None


def test_pages(door):
    """As Chromium sends them."""
    own = {"Origin": door.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert ask(door, own)[0] == 200
    stranger = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site",
                "Content-Type": "text/plain"}
    for path in ("/tokenize", "/cluster/drain"):
        status, headers, answer = ask(door, stranger, path=path)
        assert status == 403 and answer["error"]["code"] == "origin_not_allowed"
        assert "https://evil.example" in answer["error"]["message"]
        assert "access-control-allow-origin" not in headers
    allowed = {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}
    status, headers, answer = ask(door, allowed)
    assert status == 200 and answer["count"] == 1
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert "X-Request-Id" in headers["access-control-expose-headers"]


def test_preflight(door):
    asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type,x-stainless-lang"}
    status, headers, _ = door.request("OPTIONS", "/v1/chat/completions", headers=asked)
    assert status == 204
    assert headers["access-control-allow-headers"] == asked["Access-Control-Request-Headers"]
    assert "POST" in headers["access-control-allow-methods"]
    asked["Origin"] = "https://evil.example"
    assert door.request("OPTIONS", "/v1/chat/completions", headers=asked)[0] == 403


def test_names(door):
    """A name that its owner made mean 127.0.0.1; one of an allowed origin."""
    port = door.http.rsplit(":", 1)[1]
    status, _, answer = ask(door, {"Host": f"evil.example:{port}"})
    assert status == 403 and answer["error"]["code"] == "host_not_allowed"
    assert ask(door, {"Host": "chat.example"})[0] == 200
    assert ask(door, {"Host": f"localhost:{port}"})[0] == 200
