"""What monitoring sees: /metrics, a real Prometheus with the rules and the dashboard of deploy/, and
request ids that lead from a client's header into the logs of every process."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import urllib.parse
import urllib.request

import pytest

from cluster import ROOT, Cluster, Process, free_port_pair, model_path, wait_until

MODEL = model_path("qwen2-tied-Q8_0")
MONITORING = ROOT / "deploy" / "monitoring"
TRACE = "0af7651916cd43dd8448eb211c80319c"
LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="Debian's package prometheus is not installed")


@pytest.fixture(scope="module")
def town(home):
    """Two workers that have answered one request of three choices, and refused another."""
    with Cluster(home, MODEL, workers=2, options=["--log-format", "json", "-v", "--alias", "tiny"],
                 worker_options=["--log-format", "json", "-v"]) as c:
        question = {"prompt": "Once upon a time", "max_tokens": 20, "n": 3, "ignore_eos": True}
        c.status, _, answer = c.request(
            "POST", "/v1/completions", json.dumps(question),
            headers={"X-Request-Id": "errand-7", "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
        assert c.status == 200
        c.usage = json.loads(answer)["usage"]
        assert c.post("/v1/completions", {"prompt": 1.5})[0] == 400
        yield c


def metrics(c):
    """{(name, (label, ...)): value}; every line must be one."""
    status, headers, text = c.request("GET", "/metrics")
    assert status == 200 and headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {}
    for line in text.decode().splitlines():
        if line.startswith("#"):
            continue
        name, labels, value = LINE.match(line).groups()
        key = name, tuple(re.findall(r'\w+="[^"]*"', labels or ""))
        assert key not in found, line
        found[key] = float(value)
    return found


def one(found, name, *labels):
    """The sample of that name that has these labels."""
    values = [v for (n, have), v in found.items() if n == name and set(labels) <= set(have)]
    assert len(values) == 1, (name, labels, values)
    return values[0]


# ---- the figures ----

def test_requests_are_counted(town):
    found = metrics(town)
    prompt, answer = town.usage["prompt_tokens"], town.usage["completion_tokens"]
    assert one(found, "vllm:prompt_tokens_total", 'model_name="tiny"') == prompt
    assert one(found, "vllm:generation_tokens_total") == answer == 60
    assert one(found, "vllm:prefix_cache_queries_total") == prompt
    assert one(found, "vllm:request_success_total", 'finished_reason="length"') == 3
    assert one(found, "vllm:request_success_total", 'finished_reason="stop"') == 0
    assert one(found, "vllm:time_to_first_token_seconds_count") == 1
    assert one(found, "vllm:inter_token_latency_seconds_count") == 60 - 3
    assert one(found, "vllm:e2e_request_latency_seconds_count") == 3
    assert one(found, "vllm:request_generation_tokens_sum") == 60
    assert one(found, "vllm:num_requests_running") == 0
    assert one(found, "vllm:kv_cache_usage_perc") == 0
    assert one(found, "paceline_ready") == 1 and one(found, "paceline_plans_total") == 1
    path = 'path="/v1/completions"'
    assert one(found, "paceline_http_responses_total", path, 'status="200"') == 1
    assert one(found, "paceline_http_responses_total", path, 'status="400"') == 1
    assert one(found, "process_resident_memory_bytes") > 1e6


def test_histograms_add_up(town):
    found = metrics(town)
    counts = {k: v for k, v in found.items() if k[0].endswith("_count")}
    assert len(counts) > 10
    for (name, labels), count in counts.items():
        base = name[:-len("_count")]
        buckets = [v for (n, have), v in found.items()
                   if n == base + "_bucket" and set(labels) <= set(have)]
        assert buckets == sorted(buckets) and buckets[-1] == count, name
        assert (base + "_sum", labels) in found


def test_workers_tell_what_they_do(town):
    # Heartbeats bring the figures four times a second.
    steps = one(metrics(town), "vllm:iteration_tokens_total_count")
    wait_until(lambda: one(metrics(town), "paceline_worker_steps_total", 'worker="w2"') == steps, 10,
               "all steps are told")
    found = metrics(town)
    for worker in ('worker="w1"', 'worker="w2"'):
        assert one(found, "paceline_worker_info", worker, 'state="serving"') == 1
        assert one(found, "paceline_worker_step_seconds_count", worker) == steps
        assert one(found, "paceline_worker_busy_seconds_total", worker) > 0
        assert one(found, "paceline_worker_memory_used_bytes", worker) > 1e6
        assert one(found, "paceline_worker_memory_offered_bytes", worker) == 1 << 30
        assert one(found, "paceline_worker_round_trip_seconds", worker) > 0
    # Hidden states of 64 float32 for each row, and an envelope for each step.
    rows = one(found, "vllm:iteration_tokens_total_sum")
    sent = one(found, "paceline_worker_sent_bytes_total", 'worker="w1"')
    assert 256 * rows < sent < 256 * rows + 1000 * steps
    hot = [v for (n, _), v in found.items() if n == "paceline_worker_temperature_celsius"]
    assert all(-50 < v < 150 for v in hot)
    of_w1 = next(w for w in town.get("/cluster")[1]["workers"] if w["name"] == "w1")
    assert of_w1["sent_bytes"] == sent and of_w1["memory_used"] > 1e6


def test_bubbles(town):
    """While one stream runs over two stages, one of them is always idle."""
    town.post("/v1/completions", {"prompt": "Long", "max_tokens": 300, "ignore_eos": True})
    found = metrics(town)
    bubbles = [one(found, "paceline_worker_bubble_ratio", f'worker="{w}"') for w in ("w1", "w2")]
    assert all(0 <= b <= 1 for b in bubbles) and 0.7 < sum(bubbles) < 2
    active = one(found, "paceline_pipeline_active_seconds_total")
    assert one(found, "paceline_worker_step_seconds_sum", 'worker="w1"') < active


def test_metrics_need_the_key_and_ready_does_not(home, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("secret office 2\n")
    keys.chmod(0o600)
    with Cluster(home, MODEL, workers=0, options=["--api-key-file", keys]) as c:
        assert c.request("GET", "/metrics")[0] == 401
        assert c.get("/ready") == (503, {"status": "not ready"})
        c.key = "secret"
        assert one(metrics(c), "paceline_ready") == 0
        assert one(metrics(c), "paceline_tenant_requests", 'tenant="office"', 'state="waiting"') == 0
        c.add_worker()
        c.wait_ready()
        c.key = None
        assert c.get("/ready") == (200, {"status": "ready"})


def test_losses_and_replays_are_counted(home):
    with Cluster(home, MODEL, workers=2) as c:
        stream = c.stream("/v1/completions", {"prompt": "x", "max_tokens": 500, "n": 2,
                                              "ignore_eos": True})
        next(stream)
        c.workers[1].popen.kill()
        c.workers[1].popen.wait()
        for _ in stream:
            pass
        found = metrics(c)
        assert one(found, "paceline_plans_lost_total") == 1
        assert one(found, "paceline_plans_total") == 2
        assert one(found, "paceline_replays_total") == 2
        assert not any('worker="w2"' in labels for _, labels in found)


def test_the_page_names_them_all(town):
    """docs/observability.md writes a name whole, or its end behind "…"."""
    page = (ROOT / "docs" / "observability.md").read_text()
    table = page[page.index("## Metrics"):page.index("## Logs")]
    ends = set(re.findall(r"`…?([\w:]+)", table))
    names = re.findall(r"^# TYPE (\S+) ", town.request("GET", "/metrics")[2].decode(), re.M)
    assert len(names) > 50
    assert not [n for n in names if not any(n.endswith(end) and len(end) > 8 for end in ends)]
    told = [end for end in ends if re.match(r"(vllm|llamacpp|paceline|process)[:_]\w+_", end)]
    assert len(told) > 40 and not set(told) - set(names)


# ---- Prometheus ----

@needs_prometheus
def test_promtool_has_nothing_to_say(town):
    """But that the names of vLLM and llama-server have a colon, and one of vLLM's its suffix."""
    text = town.request("GET", "/metrics")[2]
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True,
                          timeout=60, check=False)
    said = done.stderr.decode().splitlines() + done.stdout.decode().splitlines()
    foreign = re.compile(r"(vllm|llamacpp):\w+ metric names should not contain ':'$|"
                         r"vllm:iteration_tokens_total non-counter metrics should not have")
    assert not [line for line in said if not foreign.match(line)]
    assert done.returncode in (0, 3)  # 3: it has said something


@needs_prometheus
def test_samples_of_prometheus_are_sound():
    for what, name in (("config", "prometheus.yml"), ("rules", "alerts.yml")):
        done = subprocess.run(["promtool", "check", what, MONITORING / name], capture_output=True,
                              text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def dashboard_queries():
    """Each panel's queries as Grafana would send them, with all models and workers chosen."""
    board = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"].replace("$__rate_interval", "1m")
            yield panel["title"], query.replace("$model", ".*").replace("$worker", ".*")


class Prometheus:
    """A real one, that collects from the coordinator twice a second."""

    def __init__(self, folder, target):
        port = free_port_pair(1)
        self.url = f"http://127.0.0.1:{port}"
        sample = (MONITORING / "prometheus.yml").read_text()
        sample = sample.replace("127.0.0.1:8080", target).replace("10s", "500ms")
        (folder / "prometheus.yml").write_text(sample)
        shutil.copy(MONITORING / "alerts.yml", folder)
        self.process = Process(
            shutil.which("prometheus"),
            [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}"], folder / "prometheus.log", None)

    def ask(self, path, **query):
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]
        return None

    def value(self, query):
        """[sample, ...]; a query that is refused fails."""
        found = self.ask("/api/v1/query", query=query)
        assert found is not None, f"{query}\n{self.process.text()[-2000:]}"
        return found["result"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()


@needs_prometheus
def test_prometheus_answers_the_dashboard(town, tmp_path):
    queries = list(dashboard_queries())
    assert len(queries) > 40
    with Prometheus(tmp_path, town.http) as p:
        # Rates want two samples, and something between them.
        count = 'count_over_time(paceline_ready[1m])'
        wait_until(lambda: (p.ask("/api/v1/query", query=count) or {}).get("result"), 60,
                   "the first sample is there")
        before = int(p.value(count)[0]["value"][1])
        assert town.post("/v1/completions", {"prompt": "And then", "max_tokens": 10})[0] == 200
        wait_until(lambda: int(p.value(count)[0]["value"][1]) > before + 2, 60, "two more samples")
        for title, query in queries:
            found = p.value(query)
            if "temperature" not in query:  # virtual machines do not tell
                assert found, f"{title}: {query} finds nothing"
        for variable in ("vllm:num_requests_running", "paceline_worker_info"):
            assert p.value(f"group by (model_name, worker) ({variable})")
        groups = wait_until(lambda: [g for g in p.ask("/api/v1/rules")["groups"]
                                     if all(r["health"] != "unknown" for r in g["rules"])], 60,
                            "the rules were evaluated")
        rules = groups[0]["rules"]
        assert len(rules) > 8 and all(r["health"] == "ok" for r in rules)
        assert not [r["name"] for r in rules if r["state"] == "firing"]


@needs_prometheus
def test_an_alert_fires(home, tmp_path):
    """With the limits of time taken off, a cluster without a worker is told of."""
    with Cluster(home, MODEL, workers=0) as c, Prometheus(tmp_path, c.http) as p:
        rules = (tmp_path / "alerts.yml").read_text()
        (tmp_path / "alerts.yml").write_text(re.sub(r"for: \d+m", "for: 0s", rules))
        wait_until(lambda: p.ask("/api/v1/rules"), 60, "Prometheus is there")
        p.process.signal(signal.SIGHUP)
        wait_until(lambda: [a for a in p.ask("/api/v1/alerts")["alerts"]
                            if a["labels"]["alertname"] == "PacelineNotReady" and
                            a["state"] == "firing"], 60, "the alert fires")


# ---- logs ----

def events(process, **wanted):
    """Lines of a JSON log that have these fields."""
    lines = [json.loads(line) for line in process.text().splitlines() if line.startswith("{")]
    return [e for e in lines if all(e.get(k) == v for k, v in wanted.items())]


def test_a_request_id_leads_through_all_logs(town):
    call, = wait_until(lambda: events(town.coordinator, request_id="errand-7"), 10, "the call ended")
    assert call["message"] == "POST /v1/completions" and call["status"] == 200
    assert call["trace_id"] == TRACE and call["parent_id"] == "b7ad6b7169203331"
    assert call["completion_tokens"] == 60 and call["id"].startswith("cmpl-")
    steps = [(e["epoch"], e["step"]) for e in events(town.coordinator, message="step sent")
             if "errand-7" in e["request_ids"].split(",")]
    assert len(steps) >= 20
    for worker in town.workers:
        computed = {(e["epoch"], e["step"]) for e in events(worker, message="step computed")}
        assert set(steps) <= computed


def test_every_line_of_the_log_is_json(town):
    for process in (town.coordinator, *town.workers):
        for line in process.text().splitlines():
            event = json.loads(line)
            assert {"time", "level", "program", "message"} <= set(event)


def test_log_as_text(home):
    with Cluster(home, MODEL, workers=1) as c:
        c.request("POST", "/v1/completions", b'{"prompt":"a","max_tokens":1}',
                  headers={"X-Request-Id": "plain"})
        c.request("GET", "/health", headers={"X-Request-Id": "unseen"})
        line = wait_until(lambda: re.search(r".*request_id=plain.*", c.coordinator.text()), 10,
                          "the call is logged")[0]
        assert re.match(r"\S+Z info +paceline-coordinator: POST /v1/completions ", line)
        assert " status=200 " in line and " trace_id=" not in line
        assert "unseen" not in c.coordinator.text()
