"""The API by HTTPS, with a certificate of an authority that the test makes."""

import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading

import pytest

from cluster import PROGRAMS, ROOT, Cluster, environment, model_path, run, the_sentence, wait_until

openai = pytest.importorskip("openai")

MODEL = model_path("qwen2-tied-Q8_0")
LONG = {"prompt": "Hi", "max_tokens": 900, "ignore_eos": True, "stream": True}

if not shutil.which("openssl"):
    pytest.skip("openssl is not installed", allow_module_level=True)


def openssl(*arguments, folder):
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    """ca.pem, and cert.pem with key.pem for 127.0.0.1 and localhost, signed by it."""
    folder = tmp_path_factory.mktemp("tls")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority",
            folder=folder)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "key.pem", "-out", "cert.csr", "-subj", "/CN=server", folder=folder)
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl("x509", "-req", "-in", "cert.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "2",
            "-CAcreateserial", "-extfile", "names", "-out", "cert.pem", folder=folder)
    return folder


@pytest.fixture(scope="module")
def secure(home, papers):
    options = ["--tls-cert", papers / "cert.pem", "--tls-key", papers / "key.pem", "--alias", "tiny",
               "--concurrency", "8"]
    with Cluster(home, MODEL, workers=2, options=options,
                 tls=ssl.create_default_context(cafile=papers / "ca.pem")) as c:
        yield c


@pytest.fixture(scope="module")
def client(secure):
    with openai.OpenAI(base_url=secure.url + "/v1", api_key="none", max_retries=0, timeout=60,
                       http_client=openai.DefaultHttpxClient(verify=secure.tls)) as c:
        yield c


def test_openai(secure, client):
    """Whole and streamed, over one connection; the same words."""
    asked = {"model": "tiny", "prompt": "Once", "max_tokens": 24, "temperature": 0}
    whole = client.completions.create(**asked).choices[0].text
    streamed = "".join(c.choices[0].text for c in client.completions.create(**asked, stream=True))
    assert whole and streamed == whole
    messages = [{"role": "user", "content": "Hi"}]
    chat = client.chat.completions.create(model="tiny", messages=messages, max_tokens=8)
    assert chat.usage.completion_tokens > 0


def test_another_authority(secure):
    with openai.OpenAI(base_url=secure.url + "/v1", api_key="none", max_retries=0) as c, \
            pytest.raises(openai.APIConnectionError):
        c.models.list()


def test_large_bodies(secure):
    status, _, body = secure.request("GET", "/openapi.json")
    assert status == 200 and body == (ROOT / "docs" / "openapi.json").read_bytes()
    status, answer = secure.post("/v1/completions", {"prompt": "x" * (7 << 20)})
    assert status == 400 and answer["error"]["code"] == "context_length_exceeded"
    status, answer = secure.post("/v1/completions", {"prompt": "x" * (9 << 20)})
    assert status == 413, answer
    logits = secure.logits(list(range(1, 200)))  # some hundred kB, more than buffers hold
    assert len(logits) % (199 * 4) == 0


@contextlib.contextmanager
def raw(secure):
    host, port = secure.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as plain, \
            secure.tls.wrap_socket(plain, server_hostname=host) as s:
        yield s


def test_streams_and_those_who_leave(secure):
    """Eight streams at once; some are read to the end, the others leave, in order or not."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(raw(secure)) for _ in range(8)]
        body = json.dumps(LONG).encode()
        for s in sockets:
            s.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: "
                      + str(len(body)).encode() + b"\r\n\r\n" + body)
        for s in sockets:
            assert s.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert secure.running() == 8
        for i, s in enumerate(sockets[:6]):
            if i % 2:
                with contextlib.suppress(OSError):
                    s.unwrap()  # a farewell in TLS's words
            s.close()
        wait_until(lambda: secure.running() <= 2, 20, "those who left are forgotten")
        for s in sockets[6:]:
            data = b""
            while not data.endswith(b"\r\n0\r\n\r\n"):
                block = s.recv(65536)
                assert block
                data = data[-20:] + block
            assert b"[DONE]" in data
    wait_until(lambda: secure.running() == 0, 20, "nothing runs")


def test_what_is_no_tls(secure):
    """Plain HTTP, nonsense, nothing at all, and versions of long ago; the server serves on."""
    host, port = secure.http.split(":")
    silent = socket.create_connection((host, int(port)))
    for data in (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(70000)):
        with socket.create_connection((host, int(port)), timeout=30) as s:
            with contextlib.suppress(ConnectionError):
                s.sendall(data)
                assert b"200" not in s.recv(4096)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((host, int(port)), timeout=30) as s, \
            pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(s)
    assert secure.get("/health")[0] == 200
    silent.close()


def test_command(secure, papers, home):
    name = secure.url.replace("127.0.0.1", "localhost")
    known = ["--url", name, "--ca-file", papers / "ca.pem"]
    code, out, said = run("paceline", "status", *known, home=home)
    assert code == 0 and b"tiny" in out, said
    code, out, said = run("paceline", "chat", *known, "-n", "4", "Hi", home=home)
    assert code == 0, said
    code, out, said = run("paceline", "bench", *known, "--requests", "4", "--clients", "2",
                          "--input-len", "8", "--output-len", "4", "--json", home=home)
    assert code == 0 and json.loads(out)["completed"] == 4, (out, said)
    code, _, said = run("paceline", "status", "--url", name, home=home)
    assert code == 4 and "--ca-file" in the_sentence(said)
    code, _, said = run("paceline", "status", "--url", name.replace("https", "http"), home=home)
    assert code == 4 and "https" in the_sentence(said)
    code, _, said = run("paceline", "status", "--url", name, "--ca-file", "/none", home=home)
    assert code == 2 and "/none" in the_sentence(said)


def test_up(papers, home):
    """It asks its own coordinator by an address that need not be in the certificate."""
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "own.key", "-out", "own.pem", "-days", "2", "-subj", "/CN=desk.example",
            folder=papers)
    process = subprocess.Popen(
        [PROGRAMS / "paceline", "up", MODEL, "--http", "127.0.0.1:0", "--tls-cert", papers / "own.pem",
         "--tls-key", papers / "own.key", "--cors-origin", "https://app.example", "--threads", "1"],
        env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = threading.Timer(60, process.kill)
    limit.start()
    try:
        line = process.stdout.readline()
        assert line.startswith("ready https://127.0.0.1:"), process.stderr.read()
    finally:
        limit.cancel()
        process.terminate()
        process.communicate(timeout=60)
    assert process.returncode == 0


def test_refusals(papers, home):
    (papers / "text.pem").write_text("-----BEGIN CERTIFICATE-----\nnothing\n")
    (papers / "bytes.pem").write_bytes(bytes(100))
    openssl("pkey", "-in", "key.pem", "-aes256", "-passout", "pass:word", "-out", "locked.pem",
            folder=papers)
    for cert, key, words in (
            ("none.pem", "key.pem", "none.pem: No such file"),
            ("cert.pem", "none.key", "none.key: No such file"),
            ("text.pem", "key.pem", "text.pem holds no certificate"),
            ("bytes.pem", "key.pem", "bytes.pem: this is no PEM file"),
            ("cert.pem", "cert.pem", "cert.pem holds no private key"),
            ("cert.pem", "ca.key", "ca.key is not the key of the certificate in"),
            ("cert.pem", "locked.pem", "locked.pem has a passphrase"),
            (".", "key.pem", "it cannot be read"),
            ("cert.pem", None, "give --tls-key too"), (None, "key.pem", "give --tls-cert too")):
        options = (["--tls-cert", papers / cert] if cert else []) + \
            (["--tls-key", papers / key] if key else [])
        code, _, said = run("paceline-coordinator", "--config", "/dev/null", "--model", MODEL,
                            "--http", "127.0.0.1:0", "--cluster", "127.0.0.1:0", *options, home=home)
        assert code == (1 if cert == "." else 2), said
        assert words in the_sentence(said)
