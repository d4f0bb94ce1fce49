"""Real processes: a coordinator and its workers, with free ports and a home of their own."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = ROOT / "tests" / "data"
PROGRAMS = pathlib.Path(os.environ.get("PACELINE_BIN", ROOT / "build" / "bin")).resolve()
ARM64 = ROOT / "build-arm64"  # tests/arm64/cross-build
QUICKSTART = ROOT / "deploy" / "quickstart"

# In the environment of every process that a test starts, so that a survivor is found in /proc.
MARK = "SYSTEM_TEST_MARK"
START_LIMIT_S = 30
STOP_LIMIT_S = 15


def model_path(name):
    """"qwen2-tied-Q8_0" -> its GGUF file."""
    folder = name.rsplit("-", 1)[0]
    return DATA / "models" / folder / "gguf" / f"{name}.gguf"


def instruction_sets():
    """Those of this machine, as PACELINE_ISA names them, the best one last."""
    flags = set()
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            flags = set(line.split(":", 1)[1].split())
            break
    found = ["scalar"]
    if {"avx2", "fma", "f16c"} <= flags:
        found.append("avx2")
    if "avx2" in found and "avx_vnni" in flags:
        found.append("avxvnni")
    if "avx2" in found and {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"} <= flags:
        found.append("avx512")
    if "avx512" in found and {"amx_tile", "amx_int8"} <= flags:
        found.append("amx")
    return found


def environment(home, isa=None, **more):
    """That of a user who has set nothing, but for PACELINE_HOME; `more` with None: not set."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")}
    env["PACELINE_HOME"] = str(home)
    env["OMP_WAIT_POLICY"] = "passive"  # more threads than cores: those that wait must not spin
    if isa:
        env["PACELINE_ISA"] = isa
    env.update(more)
    return {k: v for k, v in env.items() if v is not None}


def survivors(mark):
    """Processes that carry this mark: {pid: command line}. Zombies do not count."""
    needle = f"{MARK}={mark}".encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            variables = pathlib.Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            command = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:
            continue
        if needle in variables and command:
            found[int(entry)] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def wait_until(condition, limit_s, what):
    """Polls until the condition gives something true, which is returned."""
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {limit_s} s still not: {what}")
        time.sleep(0.01)


def run(program, *arguments, home, isa=None, stdin=b"", limit_s=60, env=None, cwd=None):
    """Runs a program to its end: (exit code, standard output, standard error), bytes and text."""
    variables = environment(home, isa)
    variables.update(env or {})
    done = subprocess.run(
        [str(PROGRAMS / program), *map(str, arguments)], input=stdin, env=variables, cwd=cwd,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit_s, check=False)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def the_sentence(stderr):
    """The one line in which a program says why it ends: "program: what, where, what to do"."""
    lines = [line for line in stderr.splitlines() if re.match(r"paceline(-\w+)?: ", line)]
    assert len(lines) == 1, f"not one sentence, but {len(lines)}:\n{stderr}"
    sentence = lines[0].split(": ", 1)[1]
    assert len(sentence) > 15, sentence
    return sentence


def free_port_pair(count=2):
    """A port that is free, and the ones after it too."""
    while True:
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
            sockets[0].bind(("127.0.0.1", 0))
            port = sockets[0].getsockname()[1]
            try:
                for i in range(1, count):
                    sockets[i].bind(("127.0.0.1", port + i))
            except OSError:
                continue
            return port


class Process:
    """One program with its output in a file."""

    def __init__(self, program, arguments, log, env, stdin=subprocess.DEVNULL, runner=()):
        self.log = pathlib.Path(log)
        self.command = [*runner, str(PROGRAMS / program), *map(str, arguments)]
        with open(self.log, "wb") as out:
            self.popen = subprocess.Popen(self.command, stdin=stdin, stdout=out,
                                          stderr=subprocess.STDOUT, env=env)

    @property
    def pid(self):
        return self.popen.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def is_alive(self):
        return self.popen.poll() is None

    def wait(self, limit_s=START_LIMIT_S):
        return self.popen.wait(timeout=limit_s)

    def signal(self, number):
        if self.is_alive():
            self.popen.send_signal(number)

    def stand_still(self):
        """SIGSTOP; returns when no thread runs any more, which takes a while on a busy machine."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: set(self.thread_states()) <= {"T"}, 10, f"{self.pid} stands still")

    def thread_states(self):
        for stat in pathlib.Path(f"/proc/{self.pid}/task").glob("*/stat"):
            yield stat.read_text().rsplit(")", 1)[1].split()[0]

    def listening_ports(self):
        """TCP ports that this process listens on."""
        inodes = set()
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                target = os.readlink(f"/proc/{self.pid}/fd/{fd}")
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
        ports = set()
        for table in ("tcp", "tcp6"):
            for line in pathlib.Path(f"/proc/{self.pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and fields[9] in inodes:
                    ports.add(int(fields[1].rsplit(":", 1)[1], 16))
        return ports

    def stop(self):
        """In order if it can be, and the exit code."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(timeout=STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
            raise AssertionError(f"{self.command[0]} had to be killed:\n{self.text()}") from None


class Cluster:
    """A coordinator and `workers` workers of `threads` threads. `isa` is one name for all, or a
    list with one for each worker; `emulated` has for each worker None, or the CPU on which qemu runs
    its ARM64 program. `network`: a hosts.Network with a host for each worker, by plain links. `runner`: what
    the coordinator's command begins with. `tls`: an ssl.SSLContext that believes the certificate which
    `options` name. What does not start in time fails with the logs."""

    count = 0

    def __init__(self, home, model, workers=1, threads=1, isa=None, options=(), worker_options=(),
                 wait=True, cuts=None, joined=None, emulated=None, env=None, network=None,
                 runner=(), tls=None):
        Cluster.count += 1
        self.home = pathlib.Path(home)
        self.folder = self.home / f"cluster-{Cluster.count}"
        self.folder.mkdir(parents=True)
        self.threads, self.isa, self.emulated, self.network = threads, isa, emulated, network
        self.worker_options = list(worker_options)
        self.env = env or {}
        self.workers = []
        self.tls = tls
        self.key = None
        self.connections = []
        ready = self.folder / "ready.json"
        if cuts:
            options = [*options, "--cuts", cuts]
        if network:
            options = ["--cluster", f"{network.address}:0", "--insecure", *options]
            self.worker_options.append("--insecure")
        wanted = joined or workers
        self.coordinator = Process(
            "paceline-coordinator",
            ["--config", "/dev/null", "--model", model, "--http", "127.0.0.1:0",
             "--cluster", "127.0.0.1:0", "--workers", max(wanted, 1), "--ready-file", ready,
             *options],
            self.folder / "coordinator.log",
            # A machine that runs many tests at once is not always heard within a second.
            environment(self.home, **{"PACELINE_WORKER_SILENCE": "3000", **self.env}),
            runner=runner)
        try:
            wait_until(lambda: ready.exists() or not self.coordinator.is_alive(), START_LIMIT_S,
                       "the coordinator has bound its ports")
            if not ready.exists():
                raise AssertionError(f"the coordinator ended:\n{self.coordinator.text()}")
            addresses = json.loads(ready.read_text())
            self.http, self.cluster = addresses["http"], addresses["cluster"]
            self.url = f"http{'s' if tls else ''}://{self.http}"
            self.content_port = int(addresses["content"].rsplit(":", 1)[1])
            for _ in range(workers):
                self.add_worker()
            if wait and workers:
                self.wait_ready()
        except BaseException:
            self.close(check=False)
            raise

    def add_worker(self, *options, isa=None):
        """One more worker; those that have joined before stay before it in the pipeline."""
        number = len(self.workers)
        if not isa:
            isa = self.isa if isinstance(self.isa, (str, type(None))) else self.isa[number]
        cpu = self.emulated[number] if self.emulated else None
        program = ARM64 / "bin" / "paceline-worker" if cpu else "paceline-worker"
        runner = ["qemu-aarch64", "-L", ARM64 / "sysroot", "-cpu", cpu] if cpu else []
        if self.network:
            runner = self.network.runner(number, pinned=True)
        worker = Process(
            program,
            ["--config", "/dev/null", "--coordinator", self.cluster, "--threads", self.threads,
             "--memory", "1GiB", "--name", f"w{number + 1}", *self.worker_options, *options],
            self.folder / f"worker-{number + 1}.log", environment(self.home, isa, **self.env),
            runner=runner)
        self.workers.append(worker)
        wait_until(lambda: f"w{number + 1} joined" in self.coordinator.text() or
                   not worker.is_alive() or not self.coordinator.is_alive(), START_LIMIT_S,
                   f"worker {number + 1} has joined")
        return worker

    def start_worker(self, name, *options, program="paceline-worker", env=None):
        """One that need not join."""
        worker = Process(
            program,
            ["--config", "/dev/null", "--coordinator", self.cluster, "--threads", self.threads,
             "--memory", "1GiB", "--name", name, *options],
            self.folder / f"worker-{name}.log", environment(self.home, **self.env, **(env or {})))
        self.workers.append(worker)
        return worker

    def logs(self):
        parts = [f"--- coordinator\n{self.coordinator.text()}"]
        parts += [f"--- worker {i + 1}\n{w.text()}" for i, w in enumerate(self.workers)]
        return "\n".join(parts)

    def wait_ready(self, limit_s=START_LIMIT_S):
        def look():
            if not self.coordinator.is_alive():
                raise AssertionError(f"the coordinator ended:\n{self.logs()}")
            return self.get("/health")[0] == 200
        try:
            wait_until(look, limit_s, "/health says 200")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.logs()}") from None

    # ---- HTTP, without any library's opinion ----

    def connect(self, limit_s):
        if self.tls:
            return http.client.HTTPSConnection(self.http, timeout=limit_s, context=self.tls)
        return http.client.HTTPConnection(self.http, timeout=limit_s)

    def request(self, method, path, body=None, headers=None, limit_s=60):
        """(status, headers with small names, body)"""
        connection = self.connect(limit_s)
        try:
            sent = dict(headers or {})
            if self.key and "Authorization" not in sent:
                sent["Authorization"] = f"Bearer {self.key}"
            connection.request(method, path, body=body, headers=sent)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, data
        finally:
            connection.close()

    def get(self, path, **how):
        status, _, data = self.request("GET", path, **how)
        return status, json.loads(data)

    def post(self, path, value, **how):
        """(status, JSON of the answer); bytes are sent as they are."""
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        status, _, data = self.request("POST", path, body=body, **how)
        return status, json.loads(data)

    def stream(self, path, value, limit_s=60):
        """The events of an answer, one after the other; [DONE] must come last."""
        connection = self.connect(limit_s)
        try:
            connection.request("POST", path, body=json.dumps({**value, "stream": True}).encode())
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            done = False
            for line in answer:
                line = line.rstrip(b"\n")
                if not line or line.startswith(b":"):
                    continue
                assert not done and line.startswith(b"data: "), line
                if line == b"data: [DONE]":
                    done = True
                    continue
                yield json.loads(line[6:])
            assert done, "the stream broke off"
        finally:
            connection.close()

    def logits(self, tokens):
        """Raw little-endian float32, row-major [tokens x vocabulary]."""
        body = json.dumps({"tokens": tokens, "output": "logits"}).encode()
        status, headers, data = self.request("POST", "/v1/probe", body=body)
        assert status == 200, data
        assert int(headers["x-paceline-rows"]) == len(tokens)
        return data

    def running(self):
        status, health = self.get("/health")
        return health["running"] + health["waiting"] if status == 200 else None

    # ---- the end ----

    def close(self, check=True):
        """Stops everything; in order, unless a test has made that impossible."""
        problems = []
        for process in [self.coordinator, *reversed(self.workers)]:
            was_alive = process.is_alive()
            try:
                code = process.stop()
            except AssertionError as e:
                problems.append(str(e))
                continue
            if was_alive and code != 0:
                problems.append(f"{process.command[0]} ended with {code}:\n{process.text()}")
        if check and problems:
            raise AssertionError("\n".join(problems))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(check=kind is None)
