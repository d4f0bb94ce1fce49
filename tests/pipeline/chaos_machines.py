"""The machines of the chaos test: a coordinator on this host and workers on others, which are network
namespaces, each with a small disk of its own. Whatever the test does to a machine is a method here."""

import contextlib
import http.client
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time

from cluster import Process, environment, wait_until

HERE = pathlib.Path(__file__).resolve().parent
PORT = 7470  # of the cluster, results and content behind it; a relay has the same ones
DATA, DATA_BEHIND_RELAY = 7480, 7481
DATA_WAY = 3  # of the relay's pairs, the one for steps
LIMIT_S = 60


class Disk:
    """A small one, in memory."""

    def __init__(self, folder, mib=8):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", self.folder],
                       check=True)

    def fill(self):
        with contextlib.suppress(OSError), open(self.folder / "filler", "ab", buffering=0) as f:
            while True:
                f.write(bytes(4096))

    def free(self):
        (self.folder / "filler").unlink(missing_ok=True)

    def close(self):
        subprocess.run(["umount", "-l", self.folder], check=False)


class Lives:
    """All processes so far. Who ends when nobody ended it is remembered."""

    def __init__(self):
        self.lock, self.list = threading.Lock(), []

    def add(self, name, process):
        with self.lock:
            self.list.append({"name": name, "process": process, "is_wanted": True})
        return process

    def let_go(self, process):
        """Before it is ended."""
        with self.lock:
            for life in self.list:
                if life["process"] is process:
                    life["is_wanted"] = False

    def all(self):
        with self.lock:
            return list(self.list)

    def ended_by_themselves(self):
        return [life for life in self.all() if life["is_wanted"] and
                not life["process"].is_alive()]


class Machine:
    """A worker's; with a relay before it, through which all that it sends and gets passes."""

    def __init__(self, place, number, has_relay):
        self.place, self.number, self.has_relay = place, number, has_relay
        self.name, self.address = f"m{number + 1}", place.network.address_of(number)
        self.disk = Disk(place.folder / self.name)
        self.lock = threading.Lock()  # one trouble at a time
        self.worker, self.relay, self.n_starts = None, None, 0
        self.start_relay()

    def start_relay(self):
        if not self.has_relay:
            return
        own, there = self.address, self.place.network.address
        pairs = [f"{own}:{PORT + i}={there}:{PORT + i}" for i in range(3)]
        pairs.append(f"{own}:{DATA}={own}:{DATA_BEHIND_RELAY}")
        self.relay = subprocess.Popen(
            [*self.place.network.runner(self.number), sys.executable, HERE / "chaos_relay.py",
             *pairs], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.relay.stdout.readline() == b"ready\n", f"{self.name} has no relay"

    def tell_relay(self, words):
        self.relay.stdin.write(f"{words}\n".encode())
        self.relay.stdin.flush()

    def start(self):
        self.n_starts += 1
        options = [f"{self.place.network.address}:{PORT}", "--data", f"{self.address}:{DATA}"]
        if self.has_relay:
            options = [f"{self.address}:{PORT}", "--data", f"{self.address}:{DATA_BEHIND_RELAY}",
                       "--advertise", f"{self.address}:{DATA}"]
        self.worker = self.place.lives.add(self.name, Process(
            "paceline-worker",
            ["--config", "/dev/null", "--insecure", "--no-beacon", "--no-pin", "--threads", 1,
             "--memory", self.place.memory, "--name", self.name, "--coordinator", *options,
             *self.place.worker_options],
            self.place.folder / f"{self.name}-{self.n_starts}.log",
            environment(self.disk.folder, **self.place.env),
            runner=self.place.network.runner(self.number)))

    def kill(self):
        self.place.lives.let_go(self.worker)
        self.worker.popen.kill()
        self.worker.popen.wait()

    def leave(self):
        """Returns the exit code."""
        self.place.lives.let_go(self.worker)
        self.worker.signal(signal.SIGTERM)
        return self.worker.popen.wait(timeout=LIMIT_S)

    def is_here(self):
        return any(w["name"] == self.name for w in self.place.state().get("workers", []))

    def forget_weights(self):
        subprocess.run(["rm", "-rf", self.disk.folder / "content"], check=True)

    def switch_off(self):
        """The power fails."""
        self.place.network.plug(self.number, False)
        self.kill()
        self.close_relay()
        self.place.network.remove(self.number)

    def switch_on(self):
        self.place.network.add(self.number)
        self.start_relay()
        self.start()

    def close_relay(self):
        if self.relay:
            self.relay.kill()
            self.relay.wait()

    def close(self):
        if self.worker and self.worker.is_alive():
            self.kill()
        self.close_relay()
        self.disk.close()


class Place:
    """A coordinator and its machines. relays: on which of these one stands. While the coordinator is
    away, and until it serves again, there is an outage."""

    def __init__(self, folder, model, network, http_port, cuts, relays=(), options=(),
                 worker_options=(), env=None, memory="1GiB", silence_s=1):
        self.folder, self.model, self.network = pathlib.Path(folder), model, network
        self.http_port, self.memory = http_port, memory
        self.options, self.worker_options, self.env = list(options), list(worker_options), env or {}
        self.silence_s = silence_s
        self.options += ["--cuts", cuts] if cuts else []
        self.lives, self.lock = Lives(), threading.Lock()
        self.coordinator, self.n_starts, self.outages, self.restarts_s = None, 0, [], []
        self.machines = []
        self.disk = Disk(self.folder / "coordinator", 32)
        try:
            for i in range(network.n_hosts):
                self.machines.append(Machine(self, i, i in relays))
        except BaseException:
            self.close()
            raise

    def start(self):
        self.start_coordinator()
        for m in self.machines:
            m.start()
        self.wait_service()
        wait_until(lambda: all(m.is_here() for m in self.machines), LIMIT_S, "all have joined")

    def start_coordinator(self):
        self.n_starts += 1
        address = self.network.address
        self.coordinator = self.lives.add("coordinator", Process(
            "paceline-coordinator",
            ["--config", "/dev/null", "--model", self.model, "--http", f"127.0.0.1:{self.http_port}",
             "--cluster", f"{address}:{PORT}", "--insecure", "--no-beacon",
             "--worker-silence", int(self.silence_s * 1000), *self.options],
            self.folder / f"coordinator-{self.n_starts}.log",
            environment(self.disk.folder, **self.env)))

    def restart_coordinator(self, number, after_s=0):
        """Ends it by this signal. Returns its exit code, when its successor serves."""
        with self.outage():
            self.lives.let_go(self.coordinator)
            self.coordinator.signal(number)
            code = self.coordinator.popen.wait(timeout=LIMIT_S)
            time.sleep(after_s)
            began = time.monotonic()
            self.start_coordinator()
            self.wait_service()
            self.restarts_s.append(time.monotonic() - began)
        return code

    @contextlib.contextmanager
    def outage(self):
        mine = [time.monotonic(), None]
        self.outages.append(mine)
        yield
        mine[1] = time.monotonic()

    def had_outage_since(self, then):
        return any(end is None or end >= then for _, end in self.outages)

    def get(self, path):
        """None: nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, ValueError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def state(self):
        return (self.get("/cluster") or (0, {}))[1]

    def serves(self):
        answer = self.get("/health")
        return answer is not None and answer[0] == 200

    def wait_service(self):
        wait_until(self.serves, LIMIT_S, "the model is in service")

    def text(self):
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')}"
                         for f in sorted(self.folder.glob("*.log")))

    def stop(self):
        """In order. Returns what went wrong."""
        problems = []
        for name, process in [("coordinator", self.coordinator),
                              *((m.name, m.worker) for m in self.machines)]:
            self.lives.let_go(process)
            process.signal(signal.SIGTERM)
            code = process.popen.wait(timeout=LIMIT_S)
            if code:
                problems.append(f"{name} ended with {code}")
        return problems

    def close(self):
        if self.coordinator and self.coordinator.is_alive():
            self.coordinator.popen.kill()
            self.coordinator.popen.wait()
        for m in self.machines:
            m.close()
        self.disk.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
