"""Answers that must be of a form, through the openai package: they always are, whatever the model
would rather say (its weights are random), and are the same wherever and beside whom they are made."""

import concurrent.futures
import json
import re

import pytest

import scripted_model
from cluster import Cluster, model_path

openai = pytest.importorskip("openai")
import pydantic  # noqa: E402  openai needs it

HELLO = [{"role": "user", "content": "Hello!"}]
PERSON = {"type": "object", "required": ["name", "age", "tags"], "additionalProperties": False,
          "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 12},
                         "age": {"type": "integer", "minimum": 0, "maximum": 150},
                         "tags": {"type": "array", "maxItems": 3,
                                  "items": {"enum": ["small", "large", "ключ"]}},
                         "mail": {"anyOf": [{"type": "null"}, {"type": "string",
                                                                "format": "uuid"}]}}}


@pytest.fixture(scope="module")
def client(pair):
    with openai.OpenAI(base_url=pair.url + "/v1", api_key="none", max_retries=0, timeout=60) as c:
        yield c


def chat(client, **how):
    return client.chat.completions.create(**{"model": "tiny", "messages": HELLO, "max_tokens": 300,
                                             "temperature": 1.5, "seed": 5, **how})


def schema_format(schema):
    return {"type": "json_schema", "json_schema": {"name": "it", "schema": schema, "strict": True}}


def is_person(value):
    assert list(value)[:3] == ["name", "age", "tags"] and set(value) <= {*PERSON["properties"]}
    assert 1 <= len(value["name"]) <= 12 and 0 <= value["age"] <= 150
    assert len(value["tags"]) <= 3 and set(value["tags"]) <= {"small", "large", "ключ"}
    assert value.get("mail") is None or re.fullmatch("[0-9a-fA-F-]{36}", value["mail"])
    return True


# ---- JSON ----

def test_schema(client):
    answer = chat(client, n=4, response_format=schema_format(PERSON))
    texts = [c.message.content for c in answer.choices]
    assert all(is_person(json.loads(text)) for text in texts) and len(set(texts)) > 1
    assert {c.finish_reason for c in answer.choices} == {"stop"}
    assert answer.usage.completion_tokens > 4


def test_schema_stream_is_the_same_text(client):
    whole = chat(client, response_format=schema_format(PERSON)).choices[0].message.content
    parts = [c.choices[0].delta.content or "" for c in
             chat(client, response_format=schema_format(PERSON), stream=True)]
    assert "".join(parts) == whole and len(parts) > 3


def test_typed_answers(client):
    class Colour(pydantic.BaseModel):
        red: int = pydantic.Field(ge=0, le=255)
        name: str = pydantic.Field(max_length=8)
        parent: "Colour | None"

    answer = client.chat.completions.parse(model="tiny", messages=HELLO, max_tokens=400,
                                           temperature=0.7, seed=3, response_format=Colour)
    assert isinstance(answer.choices[0].message.parsed, Colour)


def test_json_object(client):
    for seed in range(3):
        answer = chat(client, seed=seed, max_tokens=400, response_format={"type": "json_object"})
        text = answer.choices[0].message.content
        assert text.startswith("{")
        if answer.choices[0].finish_reason == "stop":
            assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("schema, expected", [
    ({"const": {"a": [1, "x"]}}, {"a": [1, "x"]}), ({"enum": ["yes"]}, "yes"), (True, None),
    (json.dumps({"type": "array", "items": {"type": "null"}, "minItems": 2, "maxItems": 2}),
     [None, None])])
def test_guided_json(client, schema, expected):
    answer = chat(client, max_tokens=60, extra_body={"guided_json": schema}).choices[0]
    if expected is not None:
        assert json.loads(answer.message.content) == expected and answer.finish_reason == "stop"


def test_responses(client):
    answer = client.responses.create(
        model="tiny", input="Hello!", max_output_tokens=300, temperature=1.5,
        text={"format": {"type": "json_schema", "name": "it", "schema": PERSON, "strict": True}})
    assert is_person(json.loads(answer.output_text)) and answer.status == "completed"


# ---- other forms ----

def test_regex(client):
    pattern = r"(yes|no), because [a-zа-я ]{3,60}(\.|!{1,3})"
    for seed in range(4):
        answer = chat(client, seed=seed, extra_body={"guided_regex": pattern}).choices[0]
        assert re.fullmatch(pattern, answer.message.content) and answer.finish_reason == "stop"


def test_choice(client):
    choices = ["apple", "apple pie", "äpfel\n"]
    for how in ({"guided_choice": choices}, {"structured_outputs": {"choice": choices}}):
        answer = chat(client, n=8, extra_body=how)
        assert {c.message.content for c in answer.choices} <= set(choices)
        assert {c.finish_reason for c in answer.choices} == {"stop"}


def test_grammar(client):
    grammar = 'root ::= sum "=" [0-9]{1,3}\nsum ::= sum [+-] term | term  # left first\n' \
              'term ::= [1-9] [0-9]? | "(" sum ")"'
    texts = set()
    for seed in range(6):
        answer = chat(client, seed=seed, max_tokens=200, extra_body={"guided_grammar": grammar})
        if answer.choices[0].finish_reason == "stop":
            left, right = answer.choices[0].message.content.split("=")
            assert isinstance(eval(left, {}), int) and right.isdigit()  # nothing but a sum
            texts.add(left)
    assert texts


def test_text_completions(client):
    answer = client.completions.create(model="tiny", prompt=["Once", "Twice"], max_tokens=20, n=2,
                                       extra_body={"guided_regex": "[a-f]{4}-[0-9]{2}"})
    assert all(re.fullmatch("[a-f]{4}-[0-9]{2}", c.text) for c in answer.choices)
    assert len(answer.choices) == 4


# ---- beside other parameters ----

def test_greedy_and_truncated_sampling(client):
    for how in ({"temperature": 0}, {"top_p": 0.05}, {"extra_body": {"top_k": 1}},
                {"extra_body": {"min_p": 0.9}}, {"presence_penalty": 2, "frequency_penalty": 2},
                {"logit_bias": {str(i): -100 for i in range(200)}}):
        answer = chat(client, response_format=schema_format(PERSON), **how)
        assert is_person(json.loads(answer.choices[0].message.content))


def test_stop_strings_still_stop(client):
    answer = chat(client, stop=['"age"'], response_format=schema_format(PERSON)).choices[0]
    assert answer.finish_reason == "stop" and '"age"' not in answer.message.content
    assert answer.message.content.startswith("{")


def test_length_still_ends(client):
    answer = chat(client, max_tokens=4, response_format=schema_format(PERSON)).choices[0]
    assert answer.finish_reason == "length"


def test_logprobs_are_of_the_raw_logits(client):
    """So alternatives are told that were not allowed, and what was chosen need not be likely."""
    answer = chat(client, max_tokens=20, logprobs=True, top_logprobs=3,
                  extra_body={"guided_choice": ["zebra stripes"]}).choices[0]
    records = answer.logprobs.content
    assert "".join(r.token for r in records) == "zebra stripes"
    assert any(r.token not in [t.token for t in r.top_logprobs] for r in records)
    assert all(t.logprob >= r.logprob or t.token == r.token
               for r in records for t in r.top_logprobs)


# ---- calls of tools ----

def tool(name, schema, **how):
    return {"type": "function", "function": {"name": name, "parameters": schema, **how}}


PLACE = {"type": "object", "properties": {"at": {"$ref": "#/$defs/spot"}}, "required": ["at"],
         "additionalProperties": False,
         "$defs": {"spot": {"type": "array", "items": {"type": "integer", "minimum": 0,
                                                       "maximum": 99},
                            "minItems": 2, "maxItems": 2}}}
COUNT = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "maximum": 9},
                                          "of": {"enum": ["cats", "ключ"]}},
         "required": ["of"], "additionalProperties": False}
OFFERED = [tool("book", COUNT), tool("boot", PLACE)]


def is_call(call):
    value = json.loads(call.function.arguments)
    if call.function.name == "book":
        return 1 <= value.get("n", 1) <= 9 and value["of"] in ("cats", "ключ") and len(value) <= 2
    assert call.function.name == "boot" and list(value) == ["at"]
    return all(0 <= x <= 99 for x in value["at"]) and len(value["at"]) == 2


@pytest.mark.parametrize("choice", ["required", "book", "boot"])
def test_required_calls(client, choice):
    """From a model that has never seen a tool: calls, and nothing else."""
    named = choice != "required"
    answer = chat(client, n=16, temperature=2, tools=OFFERED, parallel_tool_calls=False,
                  tool_choice={"type": "function", "function": {"name": choice}} if named
                  else choice)
    names = set()
    for message in (c.message for c in answer.choices):
        call, = message.tool_calls
        assert is_call(call) and message.content is None
        names.add(call.function.name)
    assert {c.finish_reason for c in answer.choices} == {"tool_calls"}
    assert names == {choice} if named else len(names) > 1


def test_several_required_calls(client, pair):
    line_break, = pair.post("/tokenize", {"content": "\n"})[1]["tokens"]  # between two calls
    answer = chat(client, n=8, tools=OFFERED, tool_choice="required", max_tokens=200,
                  logit_bias={str(line_break): 5})
    counts = set()
    for choice in answer.choices:
        assert choice.finish_reason in ("tool_calls", "length")
        whole = choice.message.tool_calls or []
        assert all(is_call(call) for call in whole)
        counts.add(len(whole))
    assert max(counts) > 1


def test_required_call_in_a_stream(client):
    how = {"tools": OFFERED, "tool_choice": "required", "parallel_tool_calls": False}
    whole = chat(client, **how).choices[0].message.tool_calls[0].function
    calls = [t for c in chat(client, **how, stream=True)
             for t in c.choices[0].delta.tool_calls or []]
    assert [(t.function.name, t.function.arguments) for t in calls] == \
        [(whole.name, whole.arguments)]


# ---- models that think, and call tools ----

SCRIPTS = {
    "A": '<think>\nWell: no {"a": JSON yet.\n</think>\n\n{"a": 12}',
    "B": 'Sure! Here is {"a": 3}',
    "C": '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>',
    "D": '<think>\nI had better look.\n</think>\n\n<tool_call>\n{"name": "weather", '
         '"arguments": {}}\n</tool_call>',
    "E": 'Let me see. <tool_call>\n{"name": "weather", "arguments": {"city": 17}}\n</tool_call>',
}
NUMBER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
          "additionalProperties": False}
# To such a model all that is not its script is as likely; its ids are bytes, then the tags.
NO_TAGS = {str(token): -100 for token in (ord("<"), *range(256, 263))}
TOOLS = [tool("weather", {"type": "object"})]
CITY = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"],
        "additionalProperties": False}


@pytest.fixture(scope="module")
def scripted(home):
    model = scripted_model.make(home / "scripted-forms.gguf", SCRIPTS)
    with Cluster(home, model, options=["--alias", "tiny"]) as c, \
            openai.OpenAI(base_url=c.url + "/v1", api_key="none", timeout=60) as client:
        yield client


def script(client, letter, **how):
    return chat(client, temperature=0, messages=[{"role": "user", "content": letter}],
                response_format=schema_format(NUMBER), **how).choices[0]


def test_thinks_before_the_answer(scripted):
    choice = script(scripted, "A")
    assert choice.message.reasoning_content == 'Well: no {"a": JSON yet.'
    assert choice.message.content == '{"a": 12}' and choice.finish_reason == "stop"


def test_says_nothing_but_the_answer(scripted):
    choice = script(scripted, "B", logit_bias=NO_TAGS)
    assert isinstance(json.loads(choice.message.content)["a"], int)
    assert choice.finish_reason == "stop"


def test_tools_may_be_called_instead(scripted):
    for letter, arguments in (("C", {"city": "Rome"}), ("D", {})):
        choice = script(scripted, letter, tools=TOOLS)
        assert choice.finish_reason == "tool_calls" and not choice.message.content
        assert json.loads(choice.message.tool_calls[0].function.arguments) == arguments
    strict = [tool("weather", CITY, strict=True)]
    assert script(scripted, "C", tools=strict).message.tool_calls[0].function.arguments == \
        '{"city": "Rome"}'
    alone = script(scripted, "C", logit_bias=NO_TAGS)  # there are none
    assert isinstance(json.loads(alone.message.content)["a"], int) and not alone.message.tool_calls


def test_strict_tools(scripted):
    """The model may say what it likes; a call is as the schema wants it."""
    def ask(letter, **how):
        return chat(scripted, temperature=0, messages=[{"role": "user", "content": letter}], **{
            "tools": [tool("weather", CITY, strict=True)], "parallel_tool_calls": False, **how
        }).choices[0]
    for city in (choice := ask("E")).message.tool_calls:
        assert json.loads(city.function.arguments)["city"] in ("Rome", "Oslo")
    assert choice.message.content == "Let me see. " and choice.finish_reason == "tool_calls"
    assert ask("C").message.tool_calls[0].function.arguments == '{"city": "Rome"}'
    assert ask("D", tools=[tool("weather", {"type": "object"}, strict=True)]).message.tool_calls
    assert ask("B").message.content == SCRIPTS["B"]
    free = ask("E", tools=[tool("weather", CITY)])
    assert free.message.tool_calls[0].function.arguments == '{"city": 17}'


# ---- calls in tags, as Qwen3-Coder writes them ----

FILE = {"type": "object", "additionalProperties": False,
        "required": ["path", "lines", "mode", "limit"],
        "properties": {"path": {"type": "string", "minLength": 1, "maxLength": 9},
                       "lines": {"type": "array", "items": {"type": "integer", "minimum": 0,
                                                            "maximum": 99}, "maxItems": 3},
                       "mode": {"enum": ["r", "w", None]}, "deep": {"type": "boolean"},
                       "limit": {"anyOf": [{"$ref": "#/$defs/count"},
                                           {"type": "string", "maxLength": 4}]}},
        "$defs": {"count": {"type": "integer", "minimum": 1, "maximum": 50}}}


@pytest.fixture(scope="module")
def coder(home):
    scripts = {"A": "<tool_call>\n<function=read>\n<parameter=path>\nb/c\n</parameter>\n"
                    "<parameter=lines>\nnone\n</parameter>\n</function>\n</tool_call>"}
    model = scripted_model.make(home / "scripted-coder.gguf", scripts, template="qwen3-coder",
                                context=4096)
    with Cluster(home, model, options=["--alias", "tiny"]) as c, \
            openai.OpenAI(base_url=c.url + "/v1", api_key="none", timeout=60) as client:
        yield client


@pytest.mark.parametrize("choice", ["required", "read"])
def test_required_calls_in_tags(coder, choice):
    """The model says anything that it may; each value is read as what it was written as."""
    jsonschema = pytest.importorskip("jsonschema")
    schemas = {"read": FILE, "list": CITY}
    named = choice != "required"
    answer = chat(coder, n=16, max_tokens=600, temperature=2, parallel_tool_calls=False,
                  tools=[tool(name, schema) for name, schema in schemas.items()],
                  tool_choice={"type": "function", "function": {"name": choice}} if named
                  else choice)
    seen = set()
    for c in answer.choices:
        call, = c.message.tool_calls
        value = json.loads(call.function.arguments)
        jsonschema.validate(value, schemas[call.function.name])
        seen |= {call.function.name, *value}
        assert c.message.content is None and c.finish_reason == "tool_calls"
    assert {"path", "lines", "mode", "limit"} <= seen
    assert named or {"read", "list", "city"} <= seen


def test_strict_tools_in_tags(coder):
    def ask(**how):
        return chat(coder, temperature=0, messages=[{"role": "user", "content": "A"}],
                    parallel_tool_calls=False, **how).choices[0].message.tool_calls[0].function
    assert json.loads(ask(tools=[tool("read", FILE)]).arguments)["lines"] == "none"
    strict = json.loads(ask(tools=[tool("read", FILE, strict=True)]).arguments)
    assert strict["path"] == "b/c" and isinstance(strict["lines"], list)


# ---- the same bits ----

MANY = [{"response_format": schema_format(PERSON)},
        {"extra_body": {"guided_regex": "([a-z]{2,9} ){4,12}end"}},
        {"response_format": {"type": "json_object"}}, {}]


def texts_of(url, at_once):
    with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0, timeout=120) as client, \
            concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda i: [c.message.content for c in chat(
            client, seed=i, n=2, max_tokens=150, **MANY[i % len(MANY)]).choices], range(12)))


def test_alone_and_beside_others_on_other_stages_and_given_way(home, pair):
    """Two stages, one request at a time; then one stage, twelve at once in a pool of blocks that
    does not hold them, so that some give way and are computed again."""
    alone = texts_of(pair.url, 1)
    with Cluster(home, model_path("qwen2-tied-Q8_0"),
                 options=["--alias", "tiny", "--concurrency", "16", "--context", "512",
                          "--kv-tokens", "1024"]) as c:
        assert texts_of(c.url, 12) == alone
        assert c.get("/cluster")[1]["preemptions"] > 0


def test_a_worker_dies(home):
    how = {"prompt": "Once upon a time", "max_tokens": 400, "n": 4, "seed": 9, "temperature": 1.3,
           "guided_regex": r"(\w{1,12}[ ,.]){120,200}", "stream": True, "return_token_ids": True}
    options = ["--alias", "tiny"]
    with Cluster(home, model_path("qwen2-tied-Q8_0"), workers=3, joined=3, cuts="2",
                 options=options) as c:
        undisturbed = story(c, how)
        assert story(c, how, lambda: c.workers[1].popen.kill()) == undisturbed
        c.workers[1].popen.wait()


def story(c, how, disturb=None):
    """The texts of a stream; in its middle something may happen."""
    texts, n_tokens = [""] * how["n"], 0
    for event in c.stream("/v1/completions", how):
        assert "error" not in event, event
        for choice in event["choices"]:
            texts[choice["index"]] += choice["text"]
            n_tokens += len(choice.get("token_ids") or [])
        if disturb and n_tokens > 100:
            disturb()
            disturb = None
    assert not disturb and n_tokens > 400
    return texts


# ---- what is refused ----

def test_too_many_ways_to_read_a_text(client):
    """Seen only while it is written: the request fails, and nobody else's does."""
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, extra_body={"guided_grammar": "root ::= root root root | root root | [a-z]"})
    assert "too ambiguous" in caught.value.message
    assert chat(client, max_tokens=5).choices[0].finish_reason == "length"


@pytest.mark.parametrize("how, param, words", [
    ({"response_format": schema_format({"type": "object", "properties": {"a": {"not": {}}}})},
     "response_format", "#/properties/a/not: this keyword is not supported"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
     "response_format", "schema"),
    ({"extra_body": {"guided_regex": "a(b"}}, "guided_regex", "never closed, at character 2"),
    ({"extra_body": {"guided_grammar": "root ::= x"}}, "guided_grammar", "line 1, column 10"),
    ({"extra_body": {"guided_choice": []}}, "guided_choice", "one text or more"),
    ({"extra_body": {"guided_json": "{"}}, "guided_json", "JSON"),
    ({"extra_body": {"guided_regex": "a", "guided_choice": ["b"]}}, "guided_choice", "only one"),
])
def test_refusals(client, how, param, words):
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, **how)
    assert caught.value.param == param and words in caught.value.message
