"""docs/openapi.json against the code and a running cluster: endpoints, parameters, ranges, and every
field of the answers."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

from cluster import ROOT, Cluster
from model_variants import reranker

jsonschema = pytest.importorskip("jsonschema")

TEXT = (ROOT / "docs" / "openapi.json").read_text()
API = json.loads(TEXT)
SCHEMAS = API["components"]["schemas"]
OPERATIONS = [(method, path, operation) for path, methods in API["paths"].items()
              for method, operation in methods.items()]


def validator(schema):
    """References of the schema lead into the file."""
    return jsonschema.Draft202012Validator({**schema, "components": API["components"]})


def check(schema, value):
    errors = [f"{e.json_path}: {e.message}" for e in validator(schema).iter_errors(value)]
    assert not errors, "\n".join(errors[:5])


def named(name):
    return {"$ref": f"#/components/schemas/{name}"}


def properties(schema):
    """Of a request's object, with those that it has from others."""
    schema = SCHEMAS[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
    found = dict(schema.get("properties", {}))
    for other in schema.get("allOf", []):
        found.update(properties(other))
    return found


def request_schema(operation):
    return operation["requestBody"]["content"]["application/json"]["schema"]


def walk(value):
    yield value
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, (dict, list)):
            yield from walk(item)


# ---- the file by itself, and against the code ----

def test_file():
    assert API["openapi"].startswith("3.1.")
    names = [o["operationId"] for _, _, o in OPERATIONS]
    assert len(set(names)) == len(names)
    used = set()
    for item in walk(API):
        if isinstance(item, dict) and isinstance(item.get("$ref"), str):
            target = API
            for part in item["$ref"].removeprefix("#/").split("/"):
                target = target[part]
            used.add(item["$ref"].rsplit("/", 1)[1])
    assert set(SCHEMAS) - used - {"ChatCompletionChunk", "AnthropicEvent"} == set()
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for method, path, o in OPERATIONS:
        assert o["summary"].endswith(".") and "200" in o["responses"], (method, path)
        for parameter in re.findall(r"{(\w+)}", path):
            assert any(p["name"] == parameter and p["in"] == "path" for p in o["parameters"])


def test_version():
    header = (ROOT / "base" / "version.h").read_text()
    assert f'"{API["info"]["version"]}"' in header


def routes():
    table = (ROOT / "coordinator" / "api.c").read_text()
    table = table[table.index("api_routes[] = {"):table.index("};")]
    return set(re.findall(r'{"([A-Z]+)", "([^"]+)"', table))


def test_endpoints():
    """A route that ends in / stands for all that is below it."""
    described = {(m.upper(), path) for m, path, _ in OPERATIONS}
    found = {(m, p) for m, p in described for pattern in routes()
             if pattern == (m, p.split("{")[0] if "{" in p else p)}
    assert described - found == set()
    for method, pattern in routes():
        assert any(m == method and (p == pattern or p.startswith(pattern + "{"))
                   for m, p in described), f"{method} {pattern} is not in docs/openapi.json"


def test_parameters():
    """What the code reads of a body is described, and what is described is read."""
    code = "".join(f.read_text() for f in sorted((ROOT / "coordinator").glob("api_*.c")))
    read = set(re.findall(r'json_body_\w+\([^;"]*"(\w+)"', code))
    known = {name for item in walk(SCHEMAS) if isinstance(item, dict)
             for name in item.get("properties", {})}
    # Of what is inside messages, tools and response_format, the file tells less.
    assert read - known - {"reasoning"} == set()
    literals = set(re.findall(r'"(\w+)"', code))
    for method, path, operation in OPERATIONS:
        if "requestBody" in operation:
            missing = set(properties(request_schema(operation))) - literals
            assert not missing, f"{method} {path} does not read {sorted(missing)}"


# ---- against a running cluster ----

@pytest.fixture(scope="module")
def cluster(home):
    model = reranker("qwen3-sharded-F32", home / "described.gguf")
    with Cluster(home, model, workers=2, options=["--alias", "MODEL"]) as c:
        yield c


def answered(cluster, method, path, body=None):
    """(status, media type, body)"""
    data = json.dumps(body).encode() if body is not None else None
    status, headers, answer = cluster.request(method.upper(), path, body=data)
    return status, headers["content-type"].split(";")[0], answer


def check_answer(operation, status, media, data):
    responses = operation["responses"]
    described = responses.get(str(status)) or responses[f"{status // 100}XX"]
    if "$ref" in described:
        described = API["components"]["responses"][described["$ref"].rsplit("/", 1)[1]]
    schema = described["content"][media].get("schema", {})
    if media == "application/json":
        check(schema, json.loads(data))


def response_id(cluster):
    status, answer = cluster.post("/v1/responses", {"input": "x", "max_output_tokens": 2})
    assert status == 200, answer
    return answer["id"]


@pytest.mark.parametrize("method, path, operation", OPERATIONS,
                         ids=lambda v: v if isinstance(v, str) else "")
def test_example(cluster, method, path, operation):
    """The example is answered as it is described, and nonsense too."""
    content = operation.get("requestBody", {}).get("content", {})
    body = content["application/json"]["example"] if content else None
    for parameter in operation.get("parameters", []):
        if parameter["in"] == "path":
            value = response_id(cluster) if "response" in parameter["name"] else \
                parameter["example"]
            path = path.replace("{" + parameter["name"] + "}", value)
    if path.endswith("/cancel"):
        body = {}
    status, media, data = answered(cluster, method, path, body)
    assert status == 200, data
    check_answer(operation, status, media, data)
    if content:
        for wrong in (b"", b"[]", b"{\"model\": \"none\"}"):
            status, headers, data = cluster.request("POST", path, body=wrong)
            assert status in (400, 404)
            check_answer(operation, status, headers["content-type"].split(";")[0], data)


CHAT = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 6}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("path, schema, body", [
    ("/v1/chat/completions", "ChatCompletion", {**CHAT, "logprobs": True, "top_logprobs": 2, "n": 2}),
    ("/v1/chat/completions", "ChatCompletion", {**CHAT, "return_token_ids": True}),
    ("/v1/chat/completions", "ChatCompletion", {**CHAT, "tools": [TOOL], "max_tokens": 60,
                                                "tool_choice": "required"}),
    ("/v1/chat/completions", "ChatCompletion", {**CHAT, "response_format": {"type": "json_object"}}),
    ("/v1/completions", "Completion", {"prompt": ["a", "b"], "max_tokens": 3, "logprobs": 2}),
    ("/v1/completions", "Completion", {"prompt": "ab", "max_tokens": 3, "logprobs": 0, "echo": True,
                                       "return_tokens": True}),
    ("/v1/completions", "Completion", {"prompt": "a", "suffix": "b", "max_tokens": 3}),
    ("/v1/messages", "AnthropicMessage", {**CHAT, "stop_sequences": ["x"]}),
    ("/v1/embeddings", "Embeddings", {"input": "x", "encoding_format": "base64", "dimensions": 4}),
    ("/tokenize", "Tokens", {"content": "a b", "with_pieces": True}),
], ids=lambda v: "")
def test_more_answers(cluster, path, schema, body):
    status, answer = cluster.post(path, body)
    assert status == 200, answer
    check(named(schema), answer)


@pytest.mark.parametrize("path, schema, body", [
    ("/v1/chat/completions", "ChatCompletionChunk", {**CHAT, "stream_options":
                                                     {"include_usage": True}}),
    ("/v1/chat/completions", "ChatCompletionChunk", {**CHAT, "logprobs": True, "n": 2,
                                                     "return_token_ids": True}),
    ("/v1/completions", "Completion", {"prompt": "a", "max_tokens": 5, "logprobs": 1, "echo": True}),
    ("/v1/messages", "AnthropicEvent", CHAT),
], ids=lambda v: "")
def test_streams(cluster, path, schema, body):
    status, media, data = answered(cluster, "POST", path, {**body, "stream": True})
    assert status == 200 and media == "text/event-stream"
    lines = [line[6:] for line in data.decode().splitlines() if line.startswith("data: {")]
    assert len(lines) > 1
    for line in lines:
        check(named(schema), json.loads(line))


def wrong_values(name, schema):
    """Just outside of what is described."""
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if "integer" in kinds or "number" in kinds:
        yield {}
        for key, step in (("minimum", -1), ("maximum", 1)):
            if key in schema and abs(schema[key] + step) < 2**63:
                yield schema[key] + step
        if "number" not in kinds:
            yield 1.5
    elif "boolean" in kinds:
        yield 1
    elif "string" in kinds and name != "instructions":
        yield 7
        if "enum" in schema:
            yield "no such word"
    elif "array" in kinds or "object" in kinds:
        yield 7


def edges(schema):
    """What is just inside."""
    return [schema[key] for key in ("minimum", "maximum") if key in schema]


PARAMETERS = [(path, operation, name, schema) for _, path, operation in OPERATIONS
              if "requestBody" in operation
              for name, schema in properties(request_schema(operation)).items()]


@pytest.mark.parametrize("path", sorted({p for p, _, _, _ in PARAMETERS}))
def test_ranges(cluster, path):
    """Each parameter is refused outside of its range, or of another type, and named; and not inside."""
    body = API["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    wrong = []
    for p, operation, name, schema in PARAMETERS:
        for value in wrong_values(name, schema) if p == path else ():
            status, answer = cluster.post(path, {**body, name: value})
            check_answer(operation, status, "application/json", json.dumps(answer))
            words = answer.get("error", {}).get("message", "")
            if status not in (400, 404) or name not in words and name != "stop_sequences":
                wrong.append(f"{name} = {value}: {status} {words}")
        # best_of must be n, top_logprobs needs logprobs.
        for value in edges(schema) if p == path and name not in ("best_of", "top_logprobs") else ():
            status, answer = cluster.post(path, {**body, name: value})
            if status != 200:
                wrong.append(f"{name} = {value}: {status} {answer}")
    assert not wrong, "\n".join(wrong)


def test_served(cluster):
    status, media, data = answered(cluster, "GET", "/openapi.json")
    assert status == 200 and media == "application/json" and data.decode() == TEXT


def test_thousands_of_requests(cluster, tmp_path):
    """schemathesis makes requests that fit the description, and some that nearly do: no failure of
    ours, no answer that is not described, and nobody waits for ever."""
    program = pathlib.Path(sys.executable).parent / "schemathesis"
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    examples = os.environ.get("PACELINE_OPENAPI_EXAMPLES", "3")  # for each of thousands of cases
    checks = ("not_a_server_error", "response_schema_conformance", "content_type_conformance",
              "status_code_conformance")
    done = subprocess.run(
        [program, "run", ROOT / "docs" / "openapi.json", "--url", cluster.url, "-n", examples,
         "--checks", ",".join(checks), "--phases", "examples,coverage,fuzzing",
         "--generation-deterministic", "--request-timeout", "60", "--no-color",
         "--exclude-path-regex", "drain"],  # nothing would serve without a worker
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=380 if examples == "3" else None,
        check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    assert cluster.running() == 0
