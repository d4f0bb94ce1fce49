"""The anthropic package against a running cluster of two workers, whose model says what it is told."""

import asyncio
import json

import pytest

import scripted_model
from cluster import Cluster

anthropic = pytest.importorskip("anthropic")
from typed import strict  # noqa: E402

from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent  # noqa: E402

CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "%s", "days": 3}}\n</tool_call>'
SCRIPTS = {
    "A": "Hello, 世界! How are you?",
    "B": "Let me look.\n" + CALL % "Rome" + "\n" + CALL % "Paris",
    "C": "<think>\nThey greet me.\n</think>\n\nGood morning.",
    "D": "It rains in Rome, and it is dry in Paris.",
    '"': 'weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    ":": ' {"city": "Bern"}}\n</tool_call>',
    "=": "is what I would say.",
    "E": '<tool_call>\n{"name": broken}\n</tool_call>',
}
WEATHER = {"name": "weather", "description": "Looks out of the window.",
           "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
CLOCK = {"name": "clock", "input_schema": {"type": "object"}}


@pytest.fixture(scope="module")
def cluster(home):
    model = scripted_model.make(home / "scripted.gguf", SCRIPTS)
    with Cluster(home, model, workers=2, options=["--alias", "scripted"]) as c:
        yield c


@pytest.fixture(scope="module")
def client(cluster):
    with anthropic.Anthropic(base_url=cluster.url, api_key="none", max_retries=0, timeout=60) as c:
        yield c


def question(text, **how):
    return {"model": "scripted", "max_tokens": 200,
            "messages": [{"role": "user", "content": text}], **how}


def ask(client, text, **how):
    """The message, which must be one by the package's own type; streamed it must be the same."""
    raw = client.messages.with_raw_response.create(**question(text, **how))
    message = strict(Message, raw.read())
    with client.messages.stream(**question(text, **how)) as stream:
        streamed = stream.get_final_message()
    assert [b.model_dump(exclude={"id"}) for b in streamed.content] == \
        [b.model_dump(exclude={"id"}) for b in message.content]
    assert streamed.stop_reason == message.stop_reason
    assert streamed.stop_sequence == message.stop_sequence
    assert streamed.usage.output_tokens == message.usage.output_tokens
    assert streamed.usage.input_tokens + streamed.usage.cache_read_input_tokens == \
        message.usage.input_tokens + message.usage.cache_read_input_tokens
    return message


def test_message(client):
    message = ask(client, "A")
    assert message.id.startswith("msg_") and message.model == "scripted"
    assert [b.text for b in message.content] == [SCRIPTS["A"]]
    assert message.stop_reason == "end_turn" and message.stop_sequence is None


def test_events(cluster):
    """Each of them, in their order, by the package's own types."""
    body = json.dumps({**question("B", tools=[WEATHER, CLOCK]), "stream": True}).encode()
    status, headers, data = cluster.request("POST", "/v1/messages", body=body)
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    events = []
    for event in data.decode().split("\n\n")[:-1]:
        name, value = event.split("\n")
        events.append(strict(RawMessageStreamEvent, value.removeprefix("data: ")))
        assert name == f"event: {events[-1].type}"
    kinds = [e.type for e in events]
    assert kinds[0] == "message_start" and kinds[-2:] == ["message_delta", "message_stop"]
    assert [e.content_block.type for e in events if e.type == "content_block_start"] == \
        ["text", "tool_use", "tool_use"]
    assert [e.index for e in events if e.type == "content_block_stop"] == [0, 1, 2]
    parts = [e.delta.text for e in events if e.type == "content_block_delta" and e.index == 0]
    assert len(parts) > 2 and "".join(parts) == "Let me look.\n"


def test_tools(client):
    message = ask(client, "B", tools=[WEATHER, CLOCK])
    text, *calls = message.content
    assert text.text == "Let me look.\n" and message.stop_reason == "tool_use"
    assert [(c.name, c.input) for c in calls] == \
        [("weather", {"city": "Rome", "days": 3}), ("weather", {"city": "Paris", "days": 3})]
    assert len({c.id for c in calls}) == 2
    results = [{"type": "tool_result", "tool_use_id": c.id, "content": "rain"} for c in calls]
    answer = client.messages.create(
        model="scripted", max_tokens=100, tools=[WEATHER, CLOCK],
        messages=[{"role": "user", "content": "B"},
                  {"role": "assistant", "content": message.content},
                  {"role": "user", "content": [*results, {"type": "text", "text": "D"}]}])
    assert answer.content[0].text == SCRIPTS["D"]


def test_choice_of_tools(client):
    one, = ask(client, "B", tools=[WEATHER, CLOCK], tool_choice={"type": "any"}).content
    assert (one.name, one.input) == ("weather", {"city": "Oslo"})
    named, = ask(client, "B", tools=[WEATHER, CLOCK],
                 tool_choice={"type": "tool", "name": "clock"}).content
    assert (named.name, named.input) == ("clock", {"city": "Bern"})
    single = ask(client, "B", tools=[WEATHER, CLOCK],
                 tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert [b.type for b in single.content] == ["text", "tool_use"]
    none, = ask(client, "B", tools=[WEATHER], tool_choice={"type": "none"}).content
    assert none.text == SCRIPTS["B"]
    broken, = ask(client, "E", tools=[WEATHER]).content
    assert broken.text == SCRIPTS["E"]


def test_strict_tools(client):
    """The model would rather say Rome."""
    tool = {"name": "weather", "strict": True, "input_schema": {
        "type": "object", "properties": {"city": {"enum": ["Oslo"]}}, "required": ["city"],
        "additionalProperties": False}}
    text, call = ask(client, "B", tools=[tool], extra_body={"seed": 1}, tool_choice={
        "type": "auto", "disable_parallel_tool_use": True}).content
    assert text.text == "Let me look.\n" and call.input == {"city": "Oslo"}
    with pytest.raises(anthropic.BadRequestError) as caught:
        ask(client, "B", tools=[{**tool, "input_schema": {"type": "object", "minProperties": 1}}])
    assert "tools[0]" in caught.value.body["error"]["message"]


def test_thinking(client):
    message = ask(client, "C", thinking={"type": "enabled", "budget_tokens": 1024})
    thinking, text = message.content
    assert thinking.thinking == "They greet me." and text.text == "Good morning."
    assert 5 < message.usage.output_tokens_details.thinking_tokens < message.usage.output_tokens


def test_stops(client):
    message = ask(client, "A", stop_sequences=["never", "世界"])
    assert message.content[0].text == "Hello, " and message.stop_reason == "stop_sequence"
    assert message.stop_sequence == "世界"
    message = ask(client, "A", max_tokens=2)
    assert message.stop_reason == "max_tokens" and message.usage.output_tokens == 2


def test_beginning_of_the_answer(client):
    message = client.messages.create(
        model="scripted", max_tokens=50,
        messages=[{"role": "user", "content": "A"}, {"role": "assistant", "content": "x="}])
    assert message.content[0].text == SCRIPTS["="]


def test_count(client):
    how = {"system": "Be brief.", "tools": [WEATHER]}
    raw = client.messages.with_raw_response.count_tokens(
        model="scripted", messages=[{"role": "user", "content": "A"}], **how)
    counted = strict(MessageTokensCount, raw.read())
    usage = client.messages.create(**question("A", **how)).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_async(cluster):
    async def three():
        async with anthropic.AsyncAnthropic(base_url=cluster.url, api_key="none") as c:
            return await asyncio.gather(*(c.messages.create(**question(q)) for q in "ADA"))
    assert [m.content[0].text for m in asyncio.run(three())] == [SCRIPTS[q] for q in "ADA"]


def test_errors(client):
    for how, kind, words in (
            ({"model": "claude"}, anthropic.NotFoundError, "claude"),
            ({"extra_body": {"temperature": 7}}, anthropic.BadRequestError, "temperature"),
            ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, anthropic.BadRequestError,
             "bash_20250124"),
            ({"messages": [{"role": "user", "content": [
                {"type": "image", "source": {"type": "url", "url": "http://x"}}]}]},
             anthropic.BadRequestError, "messages[0].content[0]"),
            ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens")):
        with pytest.raises(kind) as caught:
            client.messages.create(**question("A", **how))
        error = caught.value
        assert error.body["type"] == "error" and words in error.body["error"]["message"]
        assert error.type == ("not_found_error" if kind is anthropic.NotFoundError else
                              "invalid_request_error")
