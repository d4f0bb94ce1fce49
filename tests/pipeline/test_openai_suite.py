"""Every call of the openai package that this server answers, to a cluster of two workers: each answer
and each event must be a value of the package's own types, strictly, and have no field that they do
not know but for those that docs/http.md tells of. The model says what is written here. PACELINE_SUITE_MODEL=FILE: a real one
instead, whose answers are held against the types alone."""

import asyncio
import json
import os

import pytest

import scripted_model
from cluster import Cluster, wait_until

openai = pytest.importorskip("openai")
from openai.types import (Completion, CreateEmbeddingResponse, Model)  # noqa: E402
from openai.types.chat import ChatCompletion, ChatCompletionChunk  # noqa: E402
from openai.types.responses import Response, ResponseStreamEvent  # noqa: E402

from typed import strict  # noqa: E402

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "%s"}}\n</tool_call>'
SCRIPTS = {
    "A": "Hello, 世界! What can I do for you today?",
    "B": "Let me look.\n" + CALL % "Rome" + "\n" + CALL % "Paris",
    "C": "<think>\nThey greet me, so I greet them.\n</think>\n\nGood morning.",
    "D": "It rains in Rome; Paris is dry.",
    "E": '<tool_call>\n{"name": broken}\n</tool_call>',
    '"': 'weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    ":": ' {"city": "Bern"}}\n</tool_call>',
    "=": "is what I would say.",
}
WEATHER = {"type": "function", "function": {
    "name": "weather", "description": "Looks out of the window.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
CLOCK = {"type": "function", "function": {"name": "clock"}}
SCHEMA = {"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2, 3]}},
          "required": ["ok", "n"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA, "strict": True}}

CHAT_EXTRAS = {"seed", "timings", "choices.message.reasoning_content",
               "choices.delta.reasoning_content", "choices.token_ids", "choices.prompt_token_ids"}
TEXT_EXTRAS = {"seed", "timings", "choices.token_ids", "choices.prompt_token_ids"}


REAL = os.environ.get("PACELINE_SUITE_MODEL")
scripted_only = pytest.mark.skipif(bool(REAL), reason="a real model says what it likes")


@pytest.fixture(scope="module")
def cluster(home):
    model = REAL or scripted_model.make(home / "suite.gguf", SCRIPTS, context=4096)
    with Cluster(home, model, workers=2, options=["--alias", "scripted"]) as c:
        yield c


@pytest.fixture(scope="module")
def client(cluster):
    with openai.OpenAI(base_url=cluster.url + "/v1", api_key="none", max_retries=0,
                       timeout=60) as c:
        yield c


def chat_body(text, **how):
    """With a seed, for where a form keeps it from its script the model says anything."""
    return {"model": "scripted", "messages": [{"role": "user", "content": text}],
            "max_tokens": 200, "seed": 1, **how}


def chat(client, text, **how):
    raw = client.chat.completions.with_raw_response.create(**chat_body(text, **how))
    return strict(ChatCompletion, raw.content, CHAT_EXTRAS)


def events(raw):
    """The data of server-sent events."""
    raw.http_response.read()
    data = [line[6:] for line in raw.http_response.text.splitlines() if line.startswith("data: ")]
    if data[-1] == "[DONE]":
        data.pop()
    return data


def streamed(client, text, **how):
    """The chunks, each checked."""
    raw = client.chat.completions.with_raw_response.create(**chat_body(text, stream=True, **how))
    return [strict(ChatCompletionChunk, data, CHAT_EXTRAS) for data in events(raw)]


# ---- chat: (message, parameters, what the answer must be) ----

def says(text):
    return lambda a: a.choices[0].message.content == text


def calls(*cities):
    return lambda a: ([json.loads(c.function.arguments)["city"]
                       for c in a.choices[0].message.tool_calls or []] == list(cities) and
                      a.choices[0].finish_reason == "tool_calls")


def fits(answer):
    value = json.loads(answer.choices[0].message.content)
    return set(value) == {"ok", "n"} and value["n"] in (1, 2, 3)


def extra(**how):
    return {"extra_body": how}


def tokens(count):
    return lambda a: a.usage.completion_tokens == count and a.choices[0].finish_reason == "length"


HELLO = SCRIPTS["A"]
CHATS = [
    ("A", {}, says(HELLO)),
    ("A", {"temperature": 0}, says(HELLO)),
    ("A", {"temperature": 2, "seed": 7}, says(HELLO)),
    ("A", {"top_p": 0.5}, says(HELLO)),
    ("A", {"n": 3}, lambda a: [c.message.content for c in a.choices] == [HELLO] * 3),
    ("A", {"seed": 11}, lambda a: a.model_extra["seed"] == 11),
    ("A", {"max_tokens": 3}, tokens(3)),
    ("A", {"max_completion_tokens": 2}, tokens(2)),
    ("A", {"stop": "世界"}, says("Hello, ")),
    ("A", {"stop": ["no", "What"]}, says("Hello, 世界! ")),
    ("A", {"presence_penalty": 1, "frequency_penalty": 1}, says(HELLO)),
    ("A", {"logit_bias": {"65": -100}}, says(HELLO)),
    ("A", {"logprobs": True}, lambda a: len(a.choices[0].logprobs.content) > 5),
    ("A", {"logprobs": True, "top_logprobs": 3},
     lambda a: all(len(t.top_logprobs) == 3 for t in a.choices[0].logprobs.content)),
    ("A", {"user": "me", "metadata": {"a": "b"}, "store": False}, says(HELLO)),
    ("A", {"response_format": {"type": "text"}}, says(HELLO)),
    ("A", {"response_format": FORMAT}, fits),
    ("A", {"response_format": FORMAT, "temperature": 1, "seed": 5}, fits),
    ("A", extra(guided_choice=["yes", "no"]),
     lambda a: a.choices[0].message.content in ("yes", "no")),
    ("A", extra(guided_regex="[a-c]{3}"), lambda a: set(a.choices[0].message.content) <= set("abc")),
    ("A", extra(top_k=5, min_p=0.1, repetition_penalty=1.1), says(HELLO)),
    ("A", extra(ignore_eos=True, max_tokens=30), tokens(30)),
    ("A", extra(priority=3, cache_prompt=False), says(HELLO)),
    ("A", extra(return_token_ids=True), lambda a: a.choices[0].model_extra["token_ids"]),
    ("B", {}, says(SCRIPTS["B"])),
    ("B", {"tools": [WEATHER]}, calls("Rome", "Paris")),
    ("B", {"tools": [WEATHER, CLOCK], "tool_choice": "auto"}, calls("Rome", "Paris")),
    ("B", {"tools": [WEATHER], "tool_choice": "none"}, says(SCRIPTS["B"])),
    ("B", {"tools": [WEATHER], "parallel_tool_calls": False}, calls("Rome")),
    ("B", {"tools": [WEATHER, CLOCK], "tool_choice": "required"}, calls("Oslo")),
    ("B", {"tools": [WEATHER, CLOCK], "tool_choice":
           {"type": "function", "function": {"name": "weather"}}}, calls("Bern")),
    ("B", {"tools": [WEATHER], "n": 2},
     lambda a: [len(c.message.tool_calls) for c in a.choices] == [2, 2]),
    ("E", {"tools": [WEATHER]}, says(SCRIPTS["E"])),
    ("C", {}, lambda a: says("Good morning.")(a) and "greet" in
     a.choices[0].message.model_extra["reasoning_content"] and
     a.usage.completion_tokens_details.reasoning_tokens > 5),
    ("C", {"reasoning_effort": "high"}, says("Good morning.")),
    ("C", {"reasoning_effort": "none"}, says("Good morning.")),
    ("C", extra(chat_template_kwargs={"enable_thinking": True}), says("Good morning.")),
]


@pytest.mark.parametrize("text, how, is_right", CHATS, ids=lambda v: str(v)[:60])
def test_chat(client, text, how, is_right):
    answer = chat(client, text, **how)
    assert REAL or is_right(answer), answer
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


MESSAGES = [
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "A"}],
    [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "A"}],
    [{"role": "user", "content": [{"type": "text", "text": "Say it: "},
                                  {"type": "text", "text": "A"}]}],
    [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"},
     {"role": "user", "content": "A"}],
    [{"role": "user", "content": "x"},
     {"role": "assistant", "content": None, "tool_calls": [
         {"id": "call_1", "type": "function",
          "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}}]},
     {"role": "tool", "tool_call_id": "call_1", "content": "A"}],
]


@scripted_only
@pytest.mark.parametrize("messages", MESSAGES, ids=lambda m: "-".join(x["role"] for x in m))
def test_messages(client, messages):
    assert chat(client, "", messages=messages).choices[0].message.content == HELLO


@scripted_only
def test_a_tool_that_is_used(client):
    """The package's objects go back as they came."""
    messages = [{"role": "user", "content": "B"}]
    message = client.chat.completions.create(**chat_body("B", tools=[WEATHER])).choices[0].message
    messages.append(message)
    for call in message.tool_calls:
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "D"})
    assert chat(client, "", messages=messages, tools=[WEATHER]).choices[0].message.content == \
        SCRIPTS["D"]


STREAMS = [("A", {}), ("A", {"n": 2}), ("A", {"max_tokens": 4}), ("A", {"stop": ["What"]}),
           ("A", {"logprobs": True, "top_logprobs": 2}),
           ("A", {"stream_options": {"include_usage": True}}), ("A", {"response_format": FORMAT}),
           ("A", extra(return_token_ids=True)), ("B", {"tools": [WEATHER, CLOCK]}),
           ("B", {"tools": [WEATHER, CLOCK], "tool_choice": "required"}),
           ("B", {"tools": [WEATHER], "parallel_tool_calls": False}), ("E", {"tools": [WEATHER]}),
           ("C", {}), ("C", {"n": 2, "logprobs": True})]


def put_together(chunks, index):
    """One choice of a stream: content, reasoning, calls, log-probabilities, the reason to end."""
    content, reasoning, made, logprobs, finish = "", "", {}, [], None
    for choice in (c for chunk in chunks for c in chunk.choices if c.index == index):
        assert finish is None
        finish = choice.finish_reason
        content += choice.delta.content or ""
        reasoning += (choice.delta.model_extra or {}).get("reasoning_content", "")
        logprobs += choice.logprobs.content if choice.logprobs else []
        for call in choice.delta.tool_calls or []:
            name, arguments = made.get(call.index, ("", ""))
            made[call.index] = (name + (call.function.name or ""),
                                arguments + (call.function.arguments or ""))
    return content, reasoning, list(made.values()), logprobs, finish


@pytest.mark.parametrize("text, how", STREAMS, ids=lambda v: str(v)[:60])
def test_stream(client, text, how):
    """A stream adds up to the whole answer."""
    how = {**how, "seed": 1}
    whole = chat(client, text, **{k: v for k, v in how.items() if k != "stream_options"})
    chunks = streamed(client, text, **how)
    assert len({c.id for c in chunks}) == 1
    for choice in whole.choices:
        message = choice.message
        assert put_together(chunks, choice.index) == (
            message.content or "", (message.model_extra or {}).get("reasoning_content", ""),
            [(c.function.name, c.function.arguments) for c in message.tool_calls or []],
            choice.logprobs.content if choice.logprobs else [], choice.finish_reason)
    if "stream_options" in how:
        assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == \
            whole.usage.completion_tokens


@scripted_only
def test_helpers(client):
    """The package's own ways to read streams and structured answers."""
    with client.chat.completions.stream(**chat_body("B", tools=[WEATHER])) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion().choices[0].message
    assert {"content.delta", "content.done", "tool_calls.function.arguments.done"} <= kinds
    assert [c.function.name for c in final.tool_calls] == ["weather", "weather"]

    class It(openai.BaseModel):
        ok: bool
    parsed = client.chat.completions.parse(**chat_body("A", response_format=It))
    assert parsed.choices[0].message.parsed.ok in (True, False)


@scripted_only
def test_async(cluster):
    async def four():
        async with openai.AsyncOpenAI(base_url=cluster.url + "/v1", api_key="none") as c:
            return await asyncio.gather(*(c.chat.completions.create(**chat_body(q))
                                          for q in "ADAD"))
    assert [a.choices[0].message.content for a in asyncio.run(four())] == \
        [SCRIPTS[q] for q in "ADAD"]


# ---- text completions ----

TEXTS = [
    ({"prompt": "A"}, lambda a: a.choices[0].text == HELLO),
    ({"prompt": ["A", "D"]}, lambda a: [c.text for c in a.choices] == [HELLO, SCRIPTS["D"]]),
    ({"prompt": [65]}, lambda a: a.choices[0].text == HELLO),  # the byte "A"
    ({"prompt": [[65], [68]]}, lambda a: [c.text for c in a.choices] == [HELLO, SCRIPTS["D"]]),
    ({"prompt": "A", "echo": True}, lambda a: a.choices[0].text == "A" + HELLO),
    ({"prompt": "A", "logprobs": 3},
     lambda a: all(len(t) >= 3 for t in a.choices[0].logprobs.top_logprobs)),
    ({"prompt": "A", "n": 2, "best_of": 2}, lambda a: len(a.choices) == 2),
    ({"prompt": "A", "max_tokens": 2}, lambda a: a.choices[0].finish_reason == "length"),
    ({"prompt": "A", "stop": "!"}, lambda a: a.choices[0].text == "Hello, 世界"),
    ({"prompt": "A", "seed": 3, "temperature": 1.5, "top_p": 0.9, "presence_penalty": 0.5,
      "frequency_penalty": 0.5, "user": "me"}, lambda a: a.choices[0].text == HELLO),
]


def text_chunk(data):
    """While it goes on, the reason to end is null, as of OpenAI's own server: the type knows only
    whole answers."""
    value = json.loads(data)
    for choice in value["choices"]:
        choice["finish_reason"] = choice["finish_reason"] or "stop"
    strict(Completion, json.dumps(value), TEXT_EXTRAS)
    return json.loads(data)


@pytest.mark.parametrize("how, is_right", TEXTS, ids=lambda v: str(v)[:60])
def test_completion(client, how, is_right):
    body = {"model": "scripted", "max_tokens": 100, "seed": 1, **how}
    raw = client.completions.with_raw_response.create(**body)
    answer = strict(Completion, raw.content, TEXT_EXTRAS)
    assert REAL or is_right(answer), answer
    raw = client.completions.with_raw_response.create(**body, stream=True)
    chunks = [text_chunk(data) for data in events(raw)]
    for choice in answer.choices:
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == choice.index]
        assert "".join(c["text"] for c in mine) == choice.text
        assert [c["finish_reason"] for c in mine] == [None] * (len(mine) - 1) + \
            [choice.finish_reason]


@scripted_only
def test_echo_with_logprobs(client):
    """The first token has none: null, as of OpenAI's own server, though the type does not know."""
    logprobs = client.completions.create(model="scripted", prompt="xA", echo=True, logprobs=2,
                                         max_tokens=1).choices[0].logprobs
    assert logprobs.token_logprobs[0] is None and len(logprobs.token_logprobs) == 3


# ---- responses ----

FLAT = {"type": "function", "strict": False, **WEATHER["function"]}


def called(*cities):
    return lambda r: r.status == "completed" and [
        json.loads(i.arguments)["city"] for i in r.output if i.type == "function_call"
    ] == list(cities)


RESPONSE_EXTRAS = {"seed", "store"}
# Node's types want the name of a function in the event of its last argument.
EVENT_EXTRAS = {"name", *(f"response.{x}" for x in RESPONSE_EXTRAS)}
RESPONSES = [
    ({"input": "A"}, lambda r: r.output_text == HELLO and r.status == "completed"),
    ({"input": "A", "instructions": "Be brief."}, lambda r: r.output_text == HELLO),
    ({"input": [{"role": "user", "content": "A"}]}, lambda r: r.output_text == HELLO),
    ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "A"}]}]},
     lambda r: r.output_text == HELLO),
    ({"input": "A", "max_output_tokens": 3}, lambda r: r.status == "incomplete"),
    ({"input": "A", "temperature": 0.5, "top_p": 0.9, "metadata": {"a": "b"}, "store": False},
     lambda r: r.metadata == {"a": "b"}),
    ({"input": "A", **extra(seed=1),
      "text": {"format": {"type": "json_schema", "name": "it", "schema": SCHEMA, "strict": True}}},
     lambda r: set(json.loads(r.output_text)) == {"ok", "n"}),
    ({"input": "A", "include": ["message.output_text.logprobs"], "top_logprobs": 2},
     lambda r: r.output[-1].content[0].logprobs),
    ({"input": "C"}, lambda r: r.output_text == "Good morning."),
    ({"input": "B", "tools": [FLAT]}, called("Rome", "Paris")),
    ({"input": "B", "tools": [FLAT], "parallel_tool_calls": False}, called("Rome")),
    ({"input": "B", "tools": [FLAT], "tool_choice": "none"},
     lambda r: r.output_text == SCRIPTS["B"]),
    ({"input": "B", "tools": [FLAT, {**FLAT, "name": "clock"}], "tool_choice": "required"},
     called("Oslo")),
    ({"input": "B", "tools": [FLAT], "tool_choice": {"type": "function", "name": "weather"}},
     called("Bern")),
]


@pytest.mark.parametrize("how, is_right", RESPONSES, ids=lambda v: str(v)[:60])
def test_response(client, how, is_right):
    how = {"model": "scripted", "max_output_tokens": 200, **how}
    raw = client.responses.with_raw_response.create(**how)
    answer = strict(Response, raw.content, RESPONSE_EXTRAS)
    assert REAL or is_right(answer), answer
    raw = client.responses.with_raw_response.create(stream=True, **how)
    told = [strict(ResponseStreamEvent, data, EVENT_EXTRAS) for data in events(raw)]
    assert [e.sequence_number for e in told] == list(range(len(told)))
    assert REAL or told[-1].response.output_text == answer.output_text
    texts = [e for e in told if e.type == "response.function_call_arguments.done"]
    made = [i for i in told[-1].response.output if i.type == "function_call"]
    assert [(e.item_id, e.arguments) for e in texts] == [(i.id, i.arguments) for i in made]


@scripted_only
def test_a_function_that_is_used(client):
    """By the name of the response before, and by its items."""
    first = client.responses.create(model="scripted", input="B", tools=[FLAT])
    calls = [i for i in first.output if i.type == "function_call"]
    outputs = [{"type": "function_call_output", "call_id": i.call_id, "output": "D"} for i in calls]
    after = client.responses.create(model="scripted", input=outputs, tools=[FLAT],
                                    previous_response_id=first.id)
    again = client.responses.create(model="scripted", tools=[FLAT], input=[
        {"role": "user", "content": "B"}, *first.output, *outputs])
    assert after.output_text == again.output_text == SCRIPTS["D"]
    assert after.usage.input_tokens == again.usage.input_tokens


@scripted_only
def test_stored_responses(client):
    first = client.responses.create(model="scripted", input="A")
    raw = client.responses.with_raw_response.retrieve(first.id)
    assert strict(Response, raw.content, RESPONSE_EXTRAS).output_text == HELLO
    after = client.responses.create(model="scripted", input="D", previous_response_id=first.id)
    assert after.output_text == SCRIPTS["D"] and after.usage.input_tokens > first.usage.input_tokens
    long = client.responses.create(model="scripted", input="A", background=True)
    assert long.status in ("queued", "in_progress", "completed")
    assert client.responses.cancel(long.id).status in ("cancelled", "completed")
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


# ---- models and embeddings ----

def test_models(client):
    page = client.models.with_raw_response.list()
    listed, = json.loads(page.content)["data"]
    model = strict(Model, json.dumps(listed), {"meta"})
    assert model.id == "scripted"
    raw = client.models.with_raw_response.retrieve("scripted")
    assert strict(Model, raw.content, {"meta"}).owned_by == "paceline"


@pytest.mark.parametrize("how", [
    {"input": "A"}, {"input": ["A", "D", "A"]}, {"input": [65]}, {"input": [[65], [68]]},
    {"input": "A", "dimensions": 100}, {"input": "A", "encoding_format": "float", "user": "me"},
], ids=lambda v: str(v)[:60])
def test_embeddings(client, how):
    raw = client.embeddings.with_raw_response.create(model="scripted", **{
        "encoding_format": "float", **how})
    answer = strict(CreateEmbeddingResponse, raw.content)
    for item in answer.data:
        assert abs(sum(x * x for x in item.embedding) - 1) < 1e-6
    packed = client.embeddings.create(model="scripted", **{k: v for k, v in how.items()
                                                           if k != "encoding_format"})
    for a, b in zip(packed.data, answer.data):
        assert max(abs(x - y) for x, y in zip(a.embedding, b.embedding)) < 1e-6


# ---- what is refused ----

@pytest.mark.parametrize("how, kind, param", [
    ({"model": "gpt-4"}, openai.NotFoundError, "model"),
    ({"temperature": 9}, openai.BadRequestError, "temperature"),
    ({"messages": []}, openai.BadRequestError, "messages"),
    ({"messages": [{"role": "king", "content": "x"}]}, openai.BadRequestError, "messages[0].role"),
    ({"n": 99}, openai.BadRequestError, "n"),
    ({"tools": [{"type": "custom"}]}, openai.BadRequestError, "tools[0]"),
    ({"tool_choice": "required"}, openai.BadRequestError, "tool_choice"),
    ({"stream_options": {"include_usage": True}}, openai.BadRequestError, "stream_options"),
    ({"messages": [{"role": "user", "content": "x" * (2 << 20)}]}, openai.BadRequestError, None),
], ids=lambda v: str(v)[:40] if isinstance(v, dict) else "")
def test_errors(client, how, kind, param):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**chat_body("A", **how))
    error = caught.value
    assert error.param == param and error.request_id and len(error.body["message"]) > 20
    assert set(error.body) == {"message", "type", "param", "code"}


def test_too_large(client):
    with pytest.raises(openai.APIStatusError) as caught:
        chat(client, "x" * (9 << 20))
    assert caught.value.status_code == 413 and caught.value.body["type"] == "invalid_request_error"


# ---- beyond the package ----

def test_leaving(cluster, client):
    """Who leaves a stream ends it."""
    with client.chat.completions.create(**chat_body("A", stream=True, max_tokens=4000,
                                                    extra_body={"ignore_eos": True})) as stream:
        for _ in range(5):
            next(stream)
    wait_until(lambda: cluster.running() == 0, 30, "nothing runs any more")


@pytest.mark.parametrize("path, body, field", [
    ("/tokenize", {"content": "A"}, "tokens"), ("/detokenize", {"tokens": [65]}, "content"),
    ("/apply-template", {"messages": [{"role": "user", "content": "A"}]}, "prompt"),
    ("/v1/chat/completions/input_tokens", {"messages": [{"role": "user", "content": "A"}]},
     "input_tokens"),
    ("/v1/probe", {"tokens": [65, 66]}, "logprobs"), ("/health", None, "status"),
    ("/cluster", None, "workers")])
def test_others(cluster, client, path, body, field):
    """The package reaches them too."""
    send = client.get if body is None else client.post
    assert field in send(cluster.url + path, cast_to=dict, **({"body": body} if body else {}))


def test_headers(client):
    raw = client.models.with_raw_response.list(extra_headers={"X-Request-Id": "mine-1"})
    assert raw.headers["x-request-id"] == "mine-1" and raw.request_id == "mine-1"


def test_count():
    """At least sixty calls, as was promised."""
    assert len(CHATS) + len(MESSAGES) + len(STREAMS) + 2 * len(TEXTS) + 2 * len(RESPONSES) >= 60
