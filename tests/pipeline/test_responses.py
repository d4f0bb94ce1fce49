"""/v1/responses by the `openai` package; every answer is held against the package's own types."""

import pytest

from cluster import wait_until

openai = pytest.importorskip("openai")

from openai.types.responses import Response, ResponseStreamEvent  # noqa: E402
from pydantic import TypeAdapter  # noqa: E402

EVENTS = TypeAdapter(ResponseStreamEvent)


@pytest.fixture(scope="module")
def client(pair):
    with openai.OpenAI(base_url=pair.url + "/v1", api_key="none", max_retries=0, timeout=60) as c:
        yield c


def checked(response):
    """The client builds its objects without looking; here types, names and literals are looked at."""
    Response.model_validate(response.to_dict(mode="json"), strict=True)
    return response


def checked_event(event):
    """A stream() of the package adds fields of its own to its events: those of create() are ours."""
    return EVENTS.validate_python(event.to_dict(mode="json"), strict=True)


def ask(client, **how):
    return client.responses.create(**{"model": "tiny", "input": "Hello!", "max_output_tokens": 24,
                                      "temperature": 0, **how})


def test_create(client):
    answer = checked(ask(client, instructions="Be brief.", metadata={"a": "b"}))
    assert answer.id.startswith("resp_") and answer.model == "tiny"
    assert answer.status == "incomplete"
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output_text and answer.instructions == "Be brief." and answer.metadata == {"a": "b"}
    assert answer.usage.output_tokens == 24
    assert answer.usage.total_tokens == answer.usage.input_tokens + 24


def test_the_text_is_that_of_chat(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"},
                {"role": "assistant", "content": "Two."}, {"role": "user", "content": "Three?"}]
    chat = client.chat.completions.create(model="tiny", messages=messages, max_tokens=24,
                                          temperature=1, seed=3)
    answer = checked(ask(client, input=messages, temperature=1, extra_body={"seed": 3}))
    assert answer.output_text == chat.choices[0].message.content
    assert answer.usage.input_tokens == chat.usage.prompt_tokens


def test_stream(client):
    whole = ask(client)
    events = [checked_event(e) for e in ask(client, stream=True)]
    assert [e.sequence_number for e in events] == list(range(len(events)))
    assert [e.type for e in events if "delta" not in e.type] == [
        "response.created", "response.in_progress", "response.output_item.added",
        "response.content_part.added", "response.output_text.done", "response.content_part.done",
        "response.output_item.done", "response.incomplete"]
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    assert events[0].response.status == "in_progress" and events[0].response.output == []


def test_stream_manager(client):
    with client.responses.stream(model="tiny", input="Hello!", max_output_tokens=300,
                                 temperature=0, extra_body={"logit_bias": {"483": 100}}) as stream:
        for _ in stream:
            pass
        answer = checked(stream.get_final_response())
    assert answer.status == "completed" and answer.output_text == ""
    again = client.responses.retrieve(answer.id)
    assert checked(again).output_text == answer.output_text and again.usage == answer.usage


def test_logprobs(client):
    answer = checked(ask(client, include=["message.output_text.logprobs"], top_logprobs=3))
    logprobs = answer.output[0].content[0].logprobs
    assert len(logprobs) == 24
    assert all(len(entry.top_logprobs) == 3 for entry in logprobs)
    streamed = []
    for event in ask(client, stream=True, include=["message.output_text.logprobs"], top_logprobs=3):
        if checked_event(event).type == "response.output_text.delta":
            streamed += event.logprobs
    assert [e.logprob for e in streamed] == [e.logprob for e in logprobs][:len(streamed)]


def test_retrieve_and_delete(client):
    answer = ask(client)
    assert client.responses.retrieve(answer.id) == answer
    client.responses.delete(answer.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    unstored = ask(client, store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unstored.id)


def test_previous_response(client):
    first = ask(client, input="My name is Ada.")
    second = checked(ask(client, input="What is it?", previous_response_id=first.id))
    by_hand = ask(client, input=[{"role": "user", "content": "My name is Ada."},
                                 {"role": "assistant", "content": first.output_text},
                                 {"role": "user", "content": "What is it?"}])
    assert second.previous_response_id == first.id
    assert second.output_text == by_hand.output_text
    # The package sends items back as it got them.
    items = ask(client, input=[{"role": "user", "content": "My name is Ada."},
                               *[item.to_dict() for item in first.output],
                               {"role": "user", "content": "What is it?"}])
    assert items.output_text == second.output_text
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, previous_response_id="resp_0")
    assert caught.value.code == "previous_response_not_found"


def long(client, **how):
    """Thousands of tokens would follow."""
    return ask(client, max_output_tokens=900, extra_body={"ignore_eos": True}, **how)


def test_background(client, pair):
    whole = long(client)
    answer = checked(long(client, background=True))
    assert answer.status in ("queued", "in_progress") and answer.background
    wait_until(lambda: client.responses.retrieve(answer.id).status == "incomplete", 60, "it is done")
    done = checked(client.responses.retrieve(answer.id))
    assert done.output_text == whole.output_text and done.usage.output_tokens == 900
    assert pair.running() == 0


def test_background_stream_goes_on(client):
    """As OpenAI's clients do it: read a while, lose the connection, ask for what came after."""
    whole = long(client)
    seen = []
    with long(client, background=True, stream=True) as stream:
        for event in stream:
            seen.append(checked_event(event))
            if len(seen) == 40:
                break
    assert [e.type for e in seen[:3]] == ["response.created", "response.queued",
                                          "response.in_progress"]
    name = seen[0].response.id
    for event in client.responses.retrieve(name, stream=True,
                                           starting_after=seen[-1].sequence_number):
        seen.append(checked_event(event))
    assert [e.sequence_number for e in seen] == list(range(len(seen)))
    text = "".join(e.delta for e in seen if e.type == "response.output_text.delta")
    assert text == whole.output_text == seen[-1].response.output_text
    # And the package's own way, which reads all again.
    with client.responses.stream(response_id=name, starting_after=30) as stream:
        rest = list(stream)
    assert [e.sequence_number for e in rest] == [e.sequence_number for e in seen[31:]]


def test_cancel(client, pair):
    answer = long(client, background=True)
    assert checked(client.responses.cancel(answer.id)).status == "cancelled"
    assert checked(client.responses.cancel(answer.id)).status == "cancelled"
    assert checked(client.responses.retrieve(answer.id)).status == "cancelled"
    assert [checked_event(e).type
            for e in client.responses.retrieve(answer.id, stream=True)][-1] == "response.incomplete"
    wait_until(lambda: pair.running() == 0, 10, "nothing runs any more")
    free = pair.get("/cluster")[1]
    assert free["kv_blocks_free"] == free["kv_blocks"]


def test_a_client_that_leaves(client, pair):
    stream = long(client, stream=True)
    seen = [next(stream) for _ in range(10)]
    stream.close()
    wait_until(lambda: pair.running() == 0, 10, "nothing runs any more")
    assert checked(client.responses.retrieve(seen[0].response.id)).status == "cancelled"


@pytest.mark.parametrize("wrong, param", [
    ({"input": []}, "input"), ({"input": [{"role": "king", "content": "x"}]}, "input[0]"),
    ({"tools": [{"type": "web_search"}]}, "tools[0]"), ({"temperature": 3}, "temperature"),
    ({"max_output_tokens": 0}, "max_output_tokens"), ({"truncation": "auto"}, "truncation"),
    ({"background": True, "store": False}, "background"),
], ids=lambda v: str(v)[:40] if isinstance(v, dict) else "")
def test_wrong_parameters(client, wrong, param):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, **wrong)
    assert caught.value.param == param and param in caught.value.message
