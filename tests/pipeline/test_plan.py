"""paceline plan: machines that are described, models by name; and workers that are measured."""
import json

from cluster import DATA, Cluster, model_path, run, the_sentence

MODEL = model_path("qwen2-tied-Q8_0")
TWELVE = """workers = (
    { name = "desk"; count = 8; memory_gib = 12; read_gb_per_s = 35.0; int8_gops = 1000; link_mbit_per_s = 1000; link_ms = 0.2; },
    { name = "big"; count = 4; memory_gib = 24.0; read_gb_per_s = 60.0; int8_gops = 2400.0; link_mbit_per_s = 1000.0; link_ms = 0.2; }
);"""
FIELDS = {"model", "objective", "stages", "decode_tokens_per_second", "total_tokens_per_second",
          "ttft_ms_1000", "fits", "bottleneck"}
STAGE_FIELDS = {"worker", "first_layer", "end_layer", "weight_bytes", "kv_bytes", "step_ms"}


def plan(home, tmp_path, *arguments, machines=TWELVE):
    path = tmp_path / "what-if.cfg"
    path.write_text(machines)
    code, out, err = run("paceline", "plan", *arguments, "--workers-file", path, home=home)
    assert code == 0, err
    return out


def test_a_large_model_on_twelve_machines(home, tmp_path):
    for objective in ("latency", "throughput", "balanced"):
        answer = json.loads(plan(home, tmp_path, "qwen1.5-110b", "--json", "--objective", objective))
        assert answer["fits"] is True and FIELDS <= set(answer)
        assert (answer["model"], answer["objective"]) == ("qwen1.5-110b", objective)
        layer = 0
        for stage in answer["stages"]:
            assert STAGE_FIELDS <= set(stage)
            assert stage["first_layer"] == layer < stage["end_layer"]
            layer = stage["end_layer"]
            limit = 12 if stage["worker"].startswith("desk") else 24
            assert stage["weight_bytes"] + stage["kv_bytes"] < limit * 2**30
        assert layer == 80
        assert 60e9 < sum(s["weight_bytes"] for s in answer["stages"]) < 72e9
        # 2 for keys and values, 8 heads of 128, f16, 80 layers, 4 conversations of 4096
        assert sum(s["kv_bytes"] for s in answer["stages"]) == 2 * 8 * 128 * 2 * 80 * 4 * 4096
        assert 0.3 < answer["decode_tokens_per_second"] <= answer["total_tokens_per_second"]
        assert answer["ttft_ms_1000"] > 0 and answer["bottleneck"]


def test_a_picture_for_people(home, tmp_path):
    text = plan(home, tmp_path, "qwen1.5-110b").decode()
    for word in ("tokens/s", "bottleneck", "first token", "What would help"):
        assert word in text, text
    assert "#" in text or "█" in text
    assert max(map(len, text.splitlines())) <= 100


def test_what_does_not_fit_is_told(home, tmp_path):
    small = TWELVE.replace("count = 8", "count = 1").replace("count = 4", "count = 1")
    answer = json.loads(plan(home, tmp_path, "qwen2.5-32b", "--quant", "F16", "--json", machines=small))
    assert answer["fits"] is False and answer["stages"] == []
    missing = answer["missing"]
    assert missing["missing_bytes"] > 20 * 2**30 and missing["quant"] == "Q6_K"
    assert {m["worker"] for m in missing["machines"]} == {"desk", "big"}
    text = plan(home, tmp_path, "qwen2.5-32b", "--quant", "F16", machines=small).decode()
    assert "does not fit" in text and "more machines like" in text and "--quant Q6_K" in text


def test_a_file_has_its_own_types(home, tmp_path):
    answer = json.loads(plan(home, tmp_path, MODEL, "--context", 256, "--json"))
    assert answer["fits"] and sum(s["end_layer"] - s["first_layer"] for s in answer["stages"]) == 5


def test_mistakes_are_named(home, tmp_path):
    path = tmp_path / "wrong.cfg"
    for text, words in (("workers = ();", ["workers"]), ("workers = (", ["wrong.cfg:"]),
                        (TWELVE.replace("memory_gib = 12;", ""), ["memory_gib", "missing", "2"]),
                        (TWELVE.replace("memory_gib = 12", "memory_gib = -1"), ["memory_gib"]),
                        (TWELVE.replace("link_ms", "ping_ms"), ["ping_ms", "known"])):
        path.write_text(text)
        code, _, err = run("paceline", "plan", "qwen3-8b", "--workers-file", path, home=home)
        assert code == 2 and all(w in the_sentence(err) for w in words), (text, err)
    code, _, err = run("paceline", "plan", "qwen7-1b", "--workers-file", DATA, home=home)
    assert code == 1 and "qwen1.5-110b" in the_sentence(err)


def test_this_machine_is_measured(home):
    code, out, err = run("paceline", "plan", "qwen2.5-0.5b", "--context", 512, "--json", home=home)
    assert code == 0, err
    answer = json.loads(out)
    assert answer["fits"] and answer["decode_tokens_per_second"] > 0.1


def test_the_cluster_tells_machines(home):
    with Cluster(home, MODEL, workers=3, joined=3, cuts="2") as c:
        workers = c.get("/cluster")[1]["workers"]
        for w in workers:
            assert w["machine"]["cores"] >= 1 and w["machine"]["numa_nodes"] >= 1
            assert w["machine"]["measured"] is None  # so small a model is not worth it
        assert sorted(w["state"] for w in workers) == ["serving", "serving", "standby"]
        assert [bool(w["standby_reason"]) for w in workers] == [False, False, True]


def rounded(text):
    """The two write numbers with more digits and fewer."""
    return json.loads(text, parse_float=lambda digits: float(f"{float(digits):.6g}"))


def test_the_same_over_http(home, tmp_path):
    """POST /cluster/plan answers what the command does."""
    machines = [{"name": "desk", "count": 8, "memory_gib": 12, "read_gb_per_s": 35.0, "int8_gops": 1000},
                {"name": "big", "count": 4, "memory_gib": 24.0, "read_gb_per_s": 60.0,
                 "int8_gops": 2400.0, "link_mbit_per_s": 1000.0, "link_ms": 0.2, "threads": 8}]
    with Cluster(home, MODEL, workers=1) as c:
        status, choices = c.get("/cluster/plan")
        assert status == 200 and {"qwen2.5-7b", "qwen1.5-110b"} <= set(choices["models"])
        assert "Q4_K_M" in choices["quants"]
        assert choices["objectives"] == ["balanced", "latency", "throughput"]
        for more in ({"objective": "throughput", "context": 8192}, {"quant": "F16", "concurrency": 16}):
            options = [f"--{name}={value}" for name, value in more.items()]
            want = plan(home, tmp_path, "qwen1.5-110b", "--json", *options)
            status, _, answer = c.request("POST", "/cluster/plan", body=json.dumps(
                {"model": "qwen1.5-110b", "machines": machines, **more}))
            assert (status, rounded(answer)) == (200, rounded(want))
        for wrong, words in (({"model": "gpt"}, "not known"), ({"quant": "Q9"}, "'quant'"),
                             ({"objective": "joy"}, "'objective'"), ({"context": 1 << 20}, "trained for"),
                             ({"machines": []}, "'machines'"), ({"machines": [{"count": 1}]}, "missing"),
                             ({"machines": [{**machines[0], "memory_gib": 0}]}, "memory_gib"),
                             ({"machines": [{**machines[0], "name": "x" * 48}]}, "'name'"),
                             ({"machines": [{**machines[0], "count": 256}]}, "altogether"),
                             ({"machines": [{**machines[0], "count": 2.5}]}, "an integer")):
            status, answer = c.post("/cluster/plan", {"model": "qwen2.5-7b", "machines": machines, **wrong})
            assert status in (400, 404) and words in answer["error"]["message"], answer
