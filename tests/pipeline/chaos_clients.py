"""The traffic of the chaos test: streams, whole answers and responses in the background, one after the
other by each client, every one compared with what it is when nothing disturbs it."""

import contextlib
import http.client
import json
import random
import threading
import time

from mixed_load import CHAT, COMPLETIONS, WORDS, choice_add, sampling, whole_answer

RESPONSES = "/v1/responses"
PAUSE_S = 0.2  # a gap between two tokens that is worth noting
BROKEN = (OSError, http.client.HTTPException)


class Lost(Exception):
    """A request that got no answer, or another one than an answer."""


class Hung(Exception):
    """A request of which nothing was heard for too long."""


# ---- what is asked ----

class Question:
    def __init__(self, path, body):
        self.path, self.body, self.answer = path, body, None


def make_questions(count, seed):
    rnd = random.Random(seed)
    made = []
    for i in range(count):
        body = {**sampling(rnd), "ignore_eos": True, "return_token_ids": True,
                "max_tokens": rnd.choice([rnd.randint(5, 60), rnd.randint(100, 400), 700])}
        path = (COMPLETIONS, CHAT, COMPLETIONS, RESPONSES)[i % 4]
        words = " ".join(rnd.choice(WORDS) for _ in range(rnd.choice([2, 10, 30])))
        if path == COMPLETIONS:
            body.update(prompt=words, n=rnd.choice([1, 1, 3]), logprobs=2)
        elif path == CHAT:
            body.update(messages=[{"role": "user", "content": words}], logprobs=True,
                        top_logprobs=2)
        else:
            body = {k: v for k, v in body.items() if k in ("temperature", "seed", "ignore_eos")}
            body.update(input=words, max_output_tokens=rnd.randint(50, 300), background=True)
        made.append(Question(path, body))
    return made


def response_answer(said):
    """What does not differ from one asking to the next."""
    return (said["status"], [c["text"] for item in said["output"] for c in item["content"]],
            said["usage"]["output_tokens"])


def answer_all(c, questions):
    """By a cluster that nothing disturbs, one after the other."""
    for q in questions:
        status, said = c.post(q.path, {k: v for k, v in q.body.items() if k != "background"})
        assert status == 200, said
        q.answer = response_answer(said) if q.path == RESPONSES else \
            whole_answer(q, status, json.dumps(said).encode())


# ---- who asks ----

class Traffic:
    """`clients` clients, until stop(). place: which port, and whether there was an outage."""

    def __init__(self, place, questions, clients, seed, hung_s):
        self.place, self.questions, self.hung_s = place, questions, hung_s
        self.lock, self.is_over = threading.Lock(), threading.Event()
        self.answers = {"streamed": 0, "whole": 0, "background": 0}
        self.wrong, self.lost, self.hung, self.pauses = [], [], [], []
        self.n_resumed = self.n_again = self.n_tokens = 0
        self.threads = [threading.Thread(target=self.client, args=(random.Random(seed << 16 | i),),
                                         daemon=True) for i in range(clients)]

    def start(self):
        for t in self.threads:
            t.start()

    def stop(self):
        """All that is asked is answered first."""
        self.is_over.set()
        end = time.monotonic() + 2 * self.hung_s
        for t in self.threads:
            t.join(max(end - time.monotonic(), 0))
        n = sum(t.is_alive() for t in self.threads)
        self.hung += [f"client without an end: {n}"] if n else []

    def client(self, rnd):
        while not self.is_over.is_set():
            q = rnd.choice(self.questions)
            kind = "background" if q.path == RESPONSES else rnd.choice(["streamed"] * 3 + ["whole"])
            asking = Asking(self, q)
            try:
                answer = getattr(asking, kind)()
                with self.lock:
                    self.answers[kind] += 1
                    self.n_tokens += tokens_of(answer)
                    if answer != q.answer:
                        self.wrong.append(f"{asking.name} {kind} {q.body}:\nright: {q.answer}\n"
                                          f"here: {answer}")
            except Lost as e:
                self.note(self.lost, asking, kind, e)
            except Hung as e:
                self.note(self.hung, asking, kind, e)
            except Exception as e:  # pylint: disable=broad-except
                self.note(self.lost, asking, kind, repr(e))

    def note(self, where, asking, kind, what):
        with self.lock:
            where.append(f"{time.strftime('%T')} {asking.name} {kind} {asking.q.path}: {what}")
        time.sleep(0.5)


def tokens_of(answer):
    return answer[2] if isinstance(answer, tuple) else sum(len(c["ids"]) for c in answer.values())


class Asking:
    """One request to its end, over as many connections as it takes."""

    def __init__(self, traffic, q):
        self.traffic, self.place, self.q = traffic, traffic.place, q
        self.name, self.last_id, self.told, self.is_done = "?", None, {}, False
        self.heard_s = self.tried_s = time.monotonic()

    @contextlib.contextmanager
    def call(self, method, path, body=None, headers=None):
        self.tried_s = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.place.http_port,
                                                timeout=self.traffic.hung_s)
        try:
            connection.request(method, path, body=json.dumps(body) if body else None,
                               headers=headers or {})
            yield connection.getresponse()
        except TimeoutError:
            raise Hung(f"nothing for {self.traffic.hung_s} s") from None
        finally:
            connection.close()

    def excuse(self, why):
        """A break, and a 503, are for who asks while the coordinator is away."""
        if not self.place.had_outage_since(self.tried_s):
            raise Lost(why)
        self.look_at_time()
        time.sleep(0.05)

    def look_at_time(self):
        if time.monotonic() - self.heard_s > self.traffic.hung_s:
            raise Hung(f"nothing new for {self.traffic.hung_s} s")

    def until_answered(self, method, path, body=None):
        """The JSON of an answer; asks again as long as there is an excuse."""
        while True:
            try:
                with self.call(method, path, body) as answer:
                    said = answer.read()
                    if answer.status == 200:
                        return json.loads(said)
                    why = f"{answer.status} {said.decode(errors='replace')}"
                    if answer.status != 503:
                        raise Lost(why)
            except BROKEN as e:
                why = repr(e)
            self.excuse(why)
            with self.traffic.lock:
                self.traffic.n_again += 1

    def whole(self):
        said = self.until_answered("POST", self.q.path, self.q.body)
        self.name = said["id"]
        return whole_answer(self.q, 200, json.dumps(said).encode())

    def background(self):
        """A name that was told is good for an answer, whatever happens."""
        self.name = self.until_answered("POST", RESPONSES, self.q.body)["id"]
        while True:
            said = self.until_answered("GET", f"{RESPONSES}/{self.name}")
            if said["status"] not in ("queued", "in_progress"):
                return response_answer(said)
            self.look_at_time()
            time.sleep(0.1)

    def streamed(self):
        body = {**self.q.body, "stream": True}
        while not self.is_done:
            headers = {"Accept": "text/event-stream"}
            if self.last_id:
                headers["Last-Event-ID"] = self.last_id
            try:
                with self.call("POST", self.q.path, body, headers) as answer:
                    why = self.read(answer)
            except BROKEN as e:
                why = repr(e)
            if not self.is_done:
                self.excuse(why)
                with self.traffic.lock:
                    self.traffic.n_resumed += self.last_id is not None
                    self.traffic.n_again += self.last_id is None
        return self.told

    def read(self, answer):
        """Until it ends. Returns how, should it not be done."""
        if answer.status != 200:
            why = f"{answer.status} {answer.read().decode(errors='replace')}"
            if answer.status != 503:
                raise Lost(f"{why} after {tokens_of(self.told)} tokens")
            return why
        event = {}
        for line in answer:
            line = line.rstrip(b"\n")
            if line.startswith(b":"):
                self.look_at_time()
            elif line:
                name, _, value = line.partition(b": ")
                event[name] = value
            elif event:
                self.take(event)
                event = {}
        return "the stream broke off"

    def take(self, event):
        self.note_pause()
        if event[b"data"] == b"[DONE]":
            self.is_done = True
            return
        said = json.loads(event[b"data"])
        if "error" in said:
            raise Lost(f"{said['error']} after {tokens_of(self.told)} tokens")
        self.name = said["id"]
        for choice in said["choices"]:
            choice_add(self.told, choice)
        self.last_id = event[b"id"].decode()

    def note_pause(self):
        now = time.monotonic()
        if self.last_id and now - self.heard_s > PAUSE_S:
            with self.traffic.lock:
                self.traffic.pauses.append((self.heard_s, now))
        self.heard_s = now
