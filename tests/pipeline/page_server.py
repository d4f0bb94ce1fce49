"""The page's own server, but for the model: what the coordinator serves is passed on, and answers to
chats are what a test says, event by event, so that it can look at the page between two of them."""

import contextlib
import http.client
import http.server
import json
import queue
import select
import threading

BROKEN = object()


def delta(content=None, reasoning=None, finish=None, model="scripted"):
    part = {}
    if content is not None:
        part["content"] = content
    if reasoning is not None:
        part["reasoning_content"] = reasoning
    return {"object": "chat.completion.chunk", "model": model,
            "choices": [{"index": 0, "delta": part, "finish_reason": finish}]}


def usage(tokens):
    return {"object": "chat.completion.chunk", "model": "scripted", "choices": [],
            "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}}


class PageServer:
    """origin: "host:port" of a coordinator, or of nobody. say() and its like feed the answer that is
    under way, or the next one."""

    def __init__(self, origin):
        self.origin = origin
        self.questions = []  # bodies of the chats
        self.events = queue.Queue()
        self.refusals = queue.Queue()  # (status, headers, JSON) for the next chats
        self.gone = threading.Event()  # a client has closed its connection
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                owner.pass_on(self)

            def do_POST(self):
                if self.path == "/v1/chat/completions":
                    owner.answer(self)
                else:
                    owner.pass_on(self)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def pass_on(self, handler):
        connection = http.client.HTTPConnection(self.origin, timeout=60)
        with contextlib.closing(connection):
            length = int(handler.headers.get("Content-Length") or 0)
            headers = {k: v for k, v in handler.headers.items() if k.lower() != "host"}
            connection.request(handler.command, handler.path, handler.rfile.read(length), headers)
            answer = connection.getresponse()
            body = answer.read()
            handler.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length", "date"):
                    handler.send_header(name, value)
            if answer.status != 304:
                handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            with contextlib.suppress(OSError):  # a page that was closed takes nothing more
                handler.wfile.write(body)

    def answer(self, handler):
        length = int(handler.headers["Content-Length"])
        self.questions.append(json.loads(handler.rfile.read(length)))
        try:
            status, headers, value = self.refusals.get_nowait()
        except queue.Empty:
            self.stream(handler)
            return
        body = json.dumps(value).encode()
        handler.send_response(status)
        for name, text in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, text)
        handler.end_headers()
        handler.wfile.write(body)

    def stream(self, handler):
        self.gone.clear()
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.end_headers()
        while True:
            try:
                event = self.events.get(timeout=0.02)
            except queue.Empty:
                if select.select([handler.connection], [], [], 0)[0]:
                    self.gone.set()  # it says nothing more but its farewell
                    return
                continue
            if event is BROKEN:
                return
            try:
                text = event if isinstance(event, str) else json.dumps(event)
                handler.wfile.write(f"data: {text}\n\n".encode())
                handler.wfile.flush()
            except OSError:
                self.gone.set()
                return
            if event == "[DONE]" or "error" in event:
                return

    # ---- what a test says ----

    def say(self, content=None, reasoning=None):
        self.events.put(delta(content, reasoning))

    def finish(self, reason="stop", tokens=10):
        self.events.put(delta(finish=reason))
        self.events.put(usage(tokens))
        self.events.put("[DONE]")

    def fail(self, message):
        self.events.put({"error": {"message": message, "type": "timeout_error", "param": None,
                                   "code": "timeout"}})

    def break_off(self):
        self.events.put(BROKEN)

    def refuse(self, status, message, headers=None):
        self.refusals.put((status, headers or {}, {"error": {"message": message, "code": None}}))

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
