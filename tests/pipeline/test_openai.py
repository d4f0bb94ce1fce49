"""The openai package, as people use it, against a running cluster of two workers."""

import json
import math
import socket
import time

import pytest

from cluster import Cluster, model_path, wait_until

openai = pytest.importorskip("openai")

HELLO = [{"role": "user", "content": "Hello!"}]


@pytest.fixture(scope="module")
def client(pair):
    with openai.OpenAI(base_url=pair.url + "/v1", api_key="none", max_retries=0, timeout=60) as c:
        yield c


def chat(client, **how):
    return client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 24,
                                             "temperature": 0, **how})


# ---- models ----

def test_models(client):
    models = client.models.list().data
    assert [m.id for m in models] == ["tiny"]
    assert models[0].object == "model" and models[0].owned_by == "paceline"
    assert abs(models[0].created - time.time()) < 120
    assert client.models.retrieve("tiny").id == "tiny"
    assert client.models.retrieve("qwen2-tied-Q8_0").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


# ---- chat ----

def test_chat(client):
    answer = chat(client)
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert answer.model == "tiny" and answer.system_fingerprint.startswith("fp_")
    choice, = answer.choices
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason == "length"
    usage = answer.usage
    assert usage.completion_tokens == 24
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens > 5


def test_chat_stream_is_the_same_text(client):
    whole = chat(client)
    roles, text, finish, chunks = [], "", [], 0
    for chunk in chat(client, stream=True):
        assert chunk.object == "chat.completion.chunk" and chunk.usage is None
        choice, = chunk.choices
        chunks += 1
        if choice.delta.role:
            roles.append(choice.delta.role)
        text += choice.delta.content or ""
        if choice.finish_reason:
            finish.append(choice.finish_reason)
    assert text == whole.choices[0].message.content
    assert roles == ["assistant"] and finish == ["length"]
    assert chunks > 5


def test_stream_with_usage(client):
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert all(c.usage is None for c in chunks[:-1])
    last = chunks[-1]
    assert last.choices == [] and last.usage.completion_tokens == 24
    assert last.usage.prompt_tokens == chat(client).usage.prompt_tokens
    assert len({c.id for c in chunks}) == 1


def test_system_and_earlier_turns_matter(client):
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "One?"},
             {"role": "assistant", "content": "Two."},
             {"role": "user", "content": [{"type": "text", "text": "Three?"}]}]
    how = {"logprobs": True, "top_logprobs": 3}
    answer = chat(client, messages=turns, **how)
    last = chat(client, messages=[turns[0], turns[-1]], **how)
    assert answer.usage.prompt_tokens > last.usage.prompt_tokens
    assert answer.choices[0].logprobs != last.choices[0].logprobs


def test_several_choices(client):
    answer = chat(client, n=3, temperature=1.0, seed=3)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    texts = [c.message.content for c in answer.choices]
    assert len(set(texts)) == 3
    assert answer.usage.completion_tokens == 72
    assert [c.message.content for c in chat(client, n=3, temperature=1.0, seed=3).choices] == texts
    # The first choice does not know of the others.
    assert chat(client, temperature=1.0, seed=3).choices[0].message.content == texts[0]
    streamed = {0: "", 1: "", 2: ""}
    for chunk in chat(client, n=3, temperature=1.0, seed=3, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert [streamed[i] for i in range(3)] == texts


def test_seed(client):
    first = chat(client, temperature=1.0, seed=11)
    assert chat(client, temperature=1.0, seed=11).choices[0].message.content == \
        first.choices[0].message.content
    assert chat(client, temperature=1.0, seed=12).choices[0].message.content != \
        first.choices[0].message.content
    # A seed that nobody gave is drawn, told, and good for another time.
    drawn = chat(client, temperature=1.0)
    again = chat(client, temperature=1.0, seed=drawn.model_extra["seed"])
    assert again.choices[0].message.content == drawn.choices[0].message.content


def test_stop(client):
    text = chat(client).choices[0].message.content
    stop = text[len(text) // 2:len(text) // 2 + 2]
    answer = chat(client, stop=[stop, "never to be seen"])
    assert answer.choices[0].message.content == text[:text.index(stop)]
    assert answer.choices[0].finish_reason == "stop"
    streamed = "".join(c.choices[0].delta.content or "" for c in chat(client, stop=stop,
                                                                      stream=True))
    assert streamed == text[:text.index(stop)]


def test_logprobs(client):
    answer = chat(client, logprobs=True, top_logprobs=5)
    entries = answer.choices[0].logprobs.content
    assert len(entries) == 24
    for entry in entries:
        top = [t.logprob for t in entry.top_logprobs]
        assert len(top) == 5 and top == sorted(top, reverse=True)
        assert entry.logprob == top[0] and entry.token == entry.top_logprobs[0].token  # greedy
        assert entry.logprob <= 0 and sum(map(math.exp, top)) <= 1 + 1e-6
    spelled = b"".join(bytes(e.bytes) for e in entries)
    assert spelled.decode(errors="replace") == answer.choices[0].message.content
    streamed = []
    for chunk in chat(client, logprobs=True, top_logprobs=5, stream=True):
        if chunk.choices[0].logprobs:
            streamed += chunk.choices[0].logprobs.content
    assert streamed == entries
    assert chat(client).choices[0].logprobs is None


def test_logit_bias(client):
    free = chat(client, extra_body={"return_token_ids": True})
    token = free.choices[0].model_extra["token_ids"][0]
    banned = chat(client, logit_bias={str(token): -100}, extra_body={"return_token_ids": True})
    assert token not in banned.choices[0].model_extra["token_ids"]
    forced = chat(client, logit_bias={"40": 100}, extra_body={"return_token_ids": True})
    assert forced.choices[0].model_extra["token_ids"] == [40] * 24


def test_lengths(client):
    assert chat(client, max_tokens=1).usage.completion_tokens == 1
    assert chat(client, max_completion_tokens=5).usage.completion_tokens == 5
    assert chat(client, max_tokens=5).choices[0].finish_reason == "length"


def test_penalties(client):
    """A penalty on what was said leaves less repetition."""
    def repeats(**how):
        answer = chat(client, max_tokens=60, temperature=1.0, seed=1, n=4,
                      extra_body={"return_token_ids": True, "ignore_eos": True, **how})
        lists = [c.model_extra["token_ids"] for c in answer.choices]
        return sum(len(ids) - len(set(ids)) for ids in lists)
    plain = repeats()
    assert plain > 20
    assert repeats(presence_penalty=2) < plain
    assert repeats(frequency_penalty=2) < plain
    assert repeats(repetition_penalty=2) < plain


def test_end_of_text_ends(client):
    answer = chat(client, logit_bias={"483": 100})  # <|im_end|> of this vocabulary
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == ""
    answer = chat(client, logit_bias={"483": 100}, extra_body={"ignore_eos": True})
    assert answer.choices[0].finish_reason == "length"


# ---- completions ----

def complete(client, **how):
    return client.completions.create(**{"model": "tiny", "prompt": "Once upon", "max_tokens": 16,
                                        "temperature": 0, **how})


def test_completion(client):
    answer = complete(client)
    assert answer.object == "text_completion" and answer.id.startswith("cmpl-")
    assert answer.choices[0].text and answer.usage.completion_tokens == 16
    streamed = "".join(c.choices[0].text for c in complete(client, stream=True))
    assert streamed == answer.choices[0].text


def test_echo(client):
    text = complete(client).choices[0].text
    assert complete(client, echo=True).choices[0].text == "Once upon" + text
    streamed = "".join(c.choices[0].text for c in complete(client, echo=True, stream=True))
    assert streamed == "Once upon" + text


def test_completion_logprobs(client):
    logprobs = complete(client, logprobs=3).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset) == 16
    for token, logprob, top in zip(logprobs.tokens, logprobs.token_logprobs,
                                   logprobs.top_logprobs):
        assert len(top) == 3 and top[token] == logprob == max(top.values())
    assert logprobs.text_offset == sorted(logprobs.text_offset)


def test_echo_with_logprobs(client, pair):
    """As evaluations ask: the prompt's own log-probabilities, to the last digit of /v1/probe's."""
    prompt = "Once upon a time there was a princess who had a golden ball. " * 6
    answer = complete(client, prompt=prompt, echo=True, logprobs=2, max_tokens=3)
    logprobs = answer.choices[0].logprobs
    ids = pair.post("/tokenize", {"content": prompt})[1]["tokens"]
    scores = pair.post("/v1/probe", {"tokens": ids})[1]["logprobs"]
    assert len(ids) > 128 and len(logprobs.tokens) == len(ids) + 3
    assert logprobs.token_logprobs[0] is None and logprobs.top_logprobs[0] is None
    assert logprobs.token_logprobs[1:len(ids)] == scores
    assert "".join(logprobs.tokens[:len(ids)]) == prompt
    assert logprobs.text_offset[len(ids)] == len(prompt)
    for token, logprob, top in zip(logprobs.tokens[1:], logprobs.token_logprobs[1:],
                                   logprobs.top_logprobs[1:]):
        assert top[token] == logprob and max(top.values()) >= logprob and 2 <= len(top) <= 3
    assert complete(client, prompt=prompt, max_tokens=3).choices[0].text == \
        answer.choices[0].text[len(prompt):]
    streamed = [c.choices[0] for c in complete(client, prompt=prompt, echo=True, logprobs=2,
                                               max_tokens=3, stream=True)]
    assert "".join(c.text for c in streamed) == answer.choices[0].text
    assert sum((c.logprobs.token_logprobs for c in streamed if c.logprobs), []) == \
        logprobs.token_logprobs
    one = complete(client, prompt=[7], echo=True, logprobs=1, max_tokens=1).choices[0].logprobs
    assert len(one.tokens) == 2 and one.token_logprobs[0] is None


def test_suffix(client, pair):
    def find(text):
        return pair.post("/tokenize", {"content": text})[1]["tokens"]
    prompt = find("<|fim_prefix|>def f(<|fim_suffix|>):<|fim_middle|>")
    assert len(prompt) > 6
    filled = complete(client, prompt="def f(", suffix="):")
    assert filled.choices[0].text == complete(client, prompt=prompt).choices[0].text
    assert filled.usage.prompt_tokens == len(prompt)


def test_lists_of_prompts_and_token_ids(client, pair):
    both = complete(client, prompt=["Once upon", "The end"])
    assert [c.index for c in both.choices] == [0, 1]
    assert both.choices[0].text == complete(client).choices[0].text
    assert both.choices[1].text == complete(client, prompt="The end").choices[0].text
    status, answer = pair.post("/tokenize", {"content": "Once upon"})
    ids = answer["tokens"]
    assert status == 200 and len(ids) > 1
    assert complete(client, prompt=ids).choices[0].text == both.choices[0].text
    lists = complete(client, prompt=[ids, [5, 6, 7]], n=2, temperature=1, seed=4)
    assert [c.index for c in lists.choices] == [0, 1, 2, 3]
    assert complete(client, prompt=[5, 6, 7], temperature=1, seed=4).choices[0].text == \
        lists.choices[2].text


# ---- what is wrong ----

@pytest.mark.parametrize("wrong, param", [
    ({"temperature": 3}, "temperature"), ({"temperature": "hot"}, "temperature"),
    ({"top_p": -1}, "top_p"), ({"n": 0}, "n"), ({"n": 1000}, "n"),
    ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 1.5}, "max_tokens"),
    ({"stop": [""]}, "stop"), ({"stop": 3}, "stop"), ({"seed": "x"}, "seed"),
    ({"logit_bias": {"x": 1}}, "logit_bias"), ({"logit_bias": {"512": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias"), ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"), ({"messages": []}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages"), ({"messages": "hi"}, "messages"),
    ({"presence_penalty": 2.5}, "presence_penalty"), ({"stream": "yes"}, "stream"),
    ({"response_format": {"type": "xml"}}, "response_format"),
], ids=lambda v: str(v)[:40] if isinstance(v, dict) else "")
def test_wrong_parameters(client, wrong, param):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **wrong)
    error = caught.value
    assert error.status_code == 400 and error.type == "invalid_request_error"
    assert error.param is not None and error.param.startswith(param), error.param
    assert param in error.message


def test_unknown_model_and_path(client):
    with pytest.raises(openai.NotFoundError) as caught:
        chat(client, model="gpt-4")
    assert caught.value.code == "model_not_found" and "tiny" in caught.value.message
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="tiny", prompt="x")


def test_unknown_parameters_are_ignored(client):
    assert chat(client, user="me", extra_body={"no_such_thing": [1]}).choices


def test_too_long_a_prompt(client):
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, prompt=[1] * 1025)
    assert caught.value.code == "context_length_exceeded"
    assert "1025" in caught.value.message and "1024" in caught.value.message
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages=[{"role": "user", "content": "word " * 3000}])
    assert caught.value.code == "context_length_exceeded"


def test_context_is_the_limit_of_an_answer(client):
    answer = complete(client, prompt=[1] * 1000, max_tokens=1000, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 24
    assert answer.choices[0].finish_reason == "length"


# ---- keys ----

def test_keys(home, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# of the office\nkey-one\n\nkey-two\n")
    keys.chmod(0o600)
    with Cluster(home, model_path("qwen2-tied-Q8_0"), options=["--api-key-file", keys]) as c:
        def ask(key):
            with openai.OpenAI(base_url=c.url + "/v1", api_key=key, max_retries=0) as client:
                return chat(client, model="qwen2-tied-Q8_0")
        assert ask("key-one").choices and ask("key-two").choices
        for wrong in ("key-three", "key-on", "# of the office"):
            with pytest.raises(openai.AuthenticationError) as caught:
                ask(wrong)
            assert caught.value.code == "invalid_api_key"
        assert c.request("GET", "/v1/models")[0] == 401
        assert c.request("GET", "/cluster")[0] == 401
        assert c.request("GET", "/health")[0] == 200
        assert "can be read by other users" not in c.coordinator.text()
        for key in ("key-one", "key-two"):
            assert key not in c.logs()


# ---- clients that go away ----

def steps(c):
    return c.get("/cluster")[1]["workers"][0]["steps"]


@pytest.mark.parametrize("n", [1, 8])
def test_cancelled_stream_frees_its_slots(client, pair, n):
    prompt = [2] * 10
    stream = complete(client, prompt=prompt, max_tokens=1000, n=n, stream=True, temperature=1,
                      extra_body={"ignore_eos": True})
    seen = [next(stream) for _ in range(4)]
    assert len(seen) == 4
    cancelled = time.monotonic()
    stream.close()
    wait_until(lambda: pair.running() == 0, 5, "nothing runs any more")
    took = time.monotonic() - cancelled
    free = pair.get("/cluster")[1]
    assert free["kv_blocks_free"] == free["kv_blocks"]
    whole_began = time.monotonic()
    complete(client, prompt=prompt, max_tokens=1000, n=n, temperature=1,
             extra_body={"ignore_eos": True})
    assert took < (time.monotonic() - whole_began) / 2 + 0.1, "it had run to its end"


def test_cancelled_while_waiting(pair):
    """Clients that leave before their turn leave the queue."""
    host, port = pair.http.split(":")
    body = json.dumps({"prompt": [3], "max_tokens": 1000, "n": 16, "ignore_eos": True}).encode()
    head = (f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            .encode())
    sockets = []
    for _ in range(10):
        s = socket.create_connection((host, int(port)))
        s.sendall(head + body)
        sockets.append(s)
    wait_until(lambda: (pair.running() or 0) > 100, 10, "requests run and wait")
    for s in sockets:
        s.close()
    wait_until(lambda: pair.running() == 0, 2, "nothing runs or waits any more")  # to their end: ten
