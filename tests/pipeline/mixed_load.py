"""A mixed load whose answers are known: request templates, what each is answered when it is alone,
and clients that send them in a seeded order and compare every token."""

import contextlib
import http.client
import itertools
import json
import random
import threading

COMPLETIONS, CHAT, PROBE = "/v1/completions", "/v1/chat/completions", "/v1/probe"
LONGEST = 512  # the context that the templates are made for
WORDS = ("wind", "rider", "under", "again", "stone", "water", "seven", "light", "house", "paper")


class Template:
    """A request without what may differ from one sending to the next."""

    def __init__(self, name, path, body):
        self.name, self.path, self.body = name, path, body
        self.answer = None  # alone, on one process


# ---- what is asked ----

def sampling(rnd):
    kind = rnd.randrange(5)
    if kind == 0:
        return {"temperature": 0}
    how = {"temperature": rnd.choice([0.3, 0.8, 1, 1.6]), "seed": rnd.getrandbits(63) + 1}
    if kind == 1:
        how.update(top_k=rnd.choice([2, 20, 100]), top_p=0.9)
    elif kind == 2:
        how.update(repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=-0.3)
    elif kind == 3:
        how.update(min_p=0.05, logit_bias={"21": 4, "26": -100})
    return how


def token_prompt(rnd, beginnings):
    length = rnd.choice([1, 2, rnd.randint(3, 40), rnd.randint(41, 200), rnd.randint(201, 440)])
    ids = [rnd.randrange(200) for _ in range(length)]
    if rnd.random() < 0.6:
        ids = (rnd.choice(beginnings) + ids[:60])
    return ids


def chat_messages(rnd, systems):
    said = [{"role": "system", "content": rnd.choice(systems)}]
    for turn in range(rnd.choice([1, 1, 3])):
        words = " ".join(rnd.choice(WORDS) for _ in range(rnd.randint(1, 8)))
        said.append({"role": "assistant" if turn % 2 else "user", "content": words})
    return said


def generation(rnd, path):
    body = {**sampling(rnd), "return_token_ids": True, "ignore_eos": rnd.random() < 0.7,
            "max_tokens": rnd.choice([1, rnd.randint(2, 12), rnd.randint(13, 70), 120]),
            "n": rnd.choice([1, 1, 1, 1, 2, 3, 4])}
    if rnd.random() < 0.3:
        body.update({"logprobs": 2} if path == COMPLETIONS else
                    {"logprobs": True, "top_logprobs": 2})
    return body


def make_templates(count, seed=5):
    """Short and long prompts, some of which begin alike; all that a request may ask for."""
    rnd = random.Random(seed)
    beginnings = [[rnd.randrange(200) for _ in range(n)] for n in (64, 130, 200, 320)]
    systems = [" ".join(rnd.choice(WORDS) for _ in range(n)) for n in (3, 15, 25)]
    made = []
    for i in range(count):
        path = rnd.choice([COMPLETIONS] * 6 + [CHAT] * 3 + [PROBE])
        if path == PROBE:
            body = {"tokens": token_prompt(rnd, beginnings) + [1],
                    "output": rnd.choice(["logprobs", "logprobs", "logits"])}
        elif path == CHAT:
            body = {**generation(rnd, path), "messages": chat_messages(rnd, systems)}
        else:
            body = {**generation(rnd, path), "prompt": token_prompt(rnd, beginnings)}
            if rnd.random() < 0.1:
                body["prompt"] = [token_prompt(rnd, beginnings) for _ in range(3)]
            elif rnd.random() < 0.1:
                body["prompt"] = " ".join(rnd.choice(WORDS) for _ in range(20))
        made.append(Template(f"{i} {path}", path, body))
    full = [rnd.randrange(200) for _ in range(LONGEST - 20)]
    for n in (1, 2):  # up to the last position of the context
        made.append(Template(f"full {n}", COMPLETIONS, {
            "prompt": full, "max_tokens": 1 << 30, "temperature": 0, "ignore_eos": True, "n": n,
            "return_token_ids": True}))
    made.append(Template("too long", COMPLETIONS, {"prompt": full + full}))
    return made


def with_stop_strings(templates, seed=6):
    """Some of those that are answered again, with a stop string that stands in their answer."""
    rnd = random.Random(seed)
    made = []
    for t in templates:
        texts = [c["text"] for c in t.answer.values()] if t.path != PROBE else []
        longest = max(texts, key=len, default="")
        at = rnd.randrange(max(len(longest) - 4, 1))
        stop = longest[at:at + rnd.choice([1, 2, 4])]
        if len(longest) > 12 and stop and "\ufffd" not in stop:
            stops = rnd.choice([[stop], ["never said", stop]])
            made.append(Template(f"{t.name} stop", t.path, {**t.body, "stop": stops}))
    return made


# ---- what is answered ----

def choice_add(into, choice):
    """One choice of a whole answer, or a piece of it in a stream."""
    c = into.setdefault(choice["index"], {"text": "", "ids": [], "logprobs": [], "finish": None,
                                          "prompt": None})
    said = choice.get("message") or choice.get("delta") or {}
    c["text"] += choice.get("text", said.get("content", "")) or ""
    c["ids"] += choice.get("token_ids") or []
    c["prompt"] = c["prompt"] or choice.get("prompt_token_ids")
    c["finish"] = c["finish"] or choice["finish_reason"]
    logprobs = choice["logprobs"]
    if logprobs and "content" in logprobs:
        c["logprobs"] += logprobs["content"]
    elif logprobs:
        tops = logprobs["top_logprobs"] or itertools.repeat(None)
        c["logprobs"] += [list(x) for x in zip(logprobs["tokens"], logprobs["token_logprobs"],
                                               tops, logprobs["text_offset"])]


def whole_answer(template, status, data):
    if status != 200:
        return {"status": status, "error": json.loads(data)["error"]["message"]}
    if template.path == PROBE:
        return data
    answer = {}
    for choice in json.loads(data)["choices"]:
        choice_add(answer, choice)
    return answer


def stream_answer(data):
    """Of all events that are there in whole; (answer, does it end as it should)"""
    answer = {}
    events = [e for e in data.split(b"\n\n")[:-1] if e.startswith(b"data: ")]
    done = bool(events) and events[-1] == b"data: [DONE]"
    for event in events[:-1] if done else events:
        for choice in json.loads(event[6:])["choices"]:
            choice_add(answer, choice)
    return answer, done


def is_beginning(part, whole):
    """Of an answer that was broken off, is every choice the beginning of the right one?"""
    for index, c in part.items():
        w = whole[index]
        if not w["text"].startswith(c["text"]) or w["ids"][:len(c["ids"])] != c["ids"]:
            return False
        if w["logprobs"][:len(c["logprobs"])] != c["logprobs"]:
            return False
    return True


def answer_alone(c, templates):
    """Asks for each, one after the other, and keeps the answers."""
    connection = http.client.HTTPConnection(c.http, timeout=60)
    for t in templates:
        connection.request("POST", t.path, body=json.dumps(t.body).encode())
        answer = connection.getresponse()
        t.answer = whole_answer(t, answer.status, answer.read())
    connection.close()


# ---- clients ----

class Load:
    """`count` requests, from number `first` on, over `clients` connections."""

    def __init__(self, c, templates, keys, first, count, clients=32, seed=7):
        self.address, self.templates, self.keys, self.seed = c.http, templates, keys, seed
        self.numbers = iter(range(first, first + count))
        self.lock = threading.Lock()
        self.wrong = []
        self.counts = {"whole": 0, "streamed": 0, "broken off": 0}
        self.threads = [threading.Thread(target=self.client, daemon=True) for _ in range(clients)]

    def run(self, limit_s):
        for t in self.threads:
            t.start()
        for t in self.threads:
            t.join(limit_s)
            assert not t.is_alive(), f"a request takes longer than {limit_s} s: {self.counts}"
        assert not self.wrong, "\n".join(self.wrong[:5])

    def client(self):
        connection = http.client.HTTPConnection(self.address, timeout=120)
        with contextlib.closing(connection):
            while not self.wrong:
                with self.lock:
                    number = next(self.numbers, None)
                if number is None:
                    return
                try:
                    self.one(connection, number)
                except Exception as e:  # whatever it is, it ends the test
                    self.wrong.append(f"request {number}: {e!r}")

    def one(self, connection, number):
        rnd = random.Random(self.seed << 32 | number)
        t = rnd.choice(self.templates)
        body = {**t.body, "priority": rnd.choice([0, 0, 0, -2, 3])}
        headers = {"Authorization": f"Bearer {rnd.choice(self.keys)}"}
        if rnd.random() < 0.1:
            body["cache_prompt"] = False
        is_stream = t.path != PROBE and rnd.random() < 0.6
        if is_stream:
            body["stream"] = True
        leaves_after = rnd.choice([0, 1, 200, 2000, 5000]) if rnd.random() < 0.12 else None
        connection.request("POST", t.path, body=json.dumps(body).encode(), headers=headers)
        if leaves_after is not None:
            kind, right = "broken off", self.leave(connection, t, is_stream, leaves_after)
        else:
            answer = connection.getresponse()
            data = answer.read()
            kind = "streamed" if is_stream else "whole"
            if is_stream and answer.status == 200:
                right = stream_answer(data) == (t.answer, True)
            else:
                right = whole_answer(t, answer.status, data) == t.answer
        with self.lock:
            self.counts[kind] += 1
            if not right:
                told = "" if leaves_after is not None else data.decode(errors="replace")[:3000]
                self.wrong.append(f"request {number}, {kind}: {t.name}: {json.dumps(body)}\n"
                                  f"alone: {t.answer}\nhere: {told}")

    @staticmethod
    def leave(connection, t, is_stream, after):
        """Reads at least so many bytes of it, then hangs up."""
        data = b""
        if after and is_stream:
            answer = connection.getresponse()
            if answer.status != 200:
                data = answer.read()
                connection.close()
                return whole_answer(t, answer.status, data) == t.answer
            while len(data) < after and (part := answer.read1(after)):
                data += part
        connection.close()
        return is_beginning(stream_answer(data)[0], t.answer)
