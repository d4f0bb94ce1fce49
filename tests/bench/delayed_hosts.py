"""A coordinator and two workers of one thread on hosts of their own, which are network namespaces;
on each hop a relay (delay_relay) adds a time:

    coordinator .2:7470 ⇢ worker 1 .3:7480 ⇢ worker 2 .4:7480 ⇢ results .5:7471 → coordinator .2:7471

⇢ goes through a relay. Workers bind 127.0.0.1 and advertise their relay's address; worker 2 joins by
way of .5, so it sends results there too. Claims of cores do not reach across namespaces, so each
worker is given a core by hand."""

import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "pipeline"))
import hosts

HOSTS = ("coordinator", "worker1", "worker2", "results")
KEY = "bench"


class Hosts:
    """As cluster.Cluster, as far as the bench needs it."""

    def __init__(self, home, model, relay, delay_us):
        self.network, self.processes = hosts.Network(len(HOSTS)), []
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=home))
        self.http, self.key = f"{self.address('coordinator')}:8080", KEY
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")}
        self.env["PACELINE_HOME"] = str(home)
        try:
            self.start(model, relay, str(delay_us))
        except BaseException:
            self.close()
            raise

    def address(self, host):
        return self.network.address_of(HOSTS.index(host))

    def run(self, host, *command):
        log = open(self.folder / f"{host}-{len(self.processes)}.log", "wb")
        with log:
            self.processes.append(subprocess.Popen(
                [*self.network.runner(HOSTS.index(host)), *map(str, command)], env=self.env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT))

    def start(self, model, relay, delay):
        programs = relay.parent
        keys = self.folder / "keys"
        keys.write_text(f"{KEY}\n")
        keys.chmod(0o600)
        cores = sorted(os.sched_getaffinity(0))[:2]
        coordinator, results = self.address("coordinator"), self.address("results")
        self.run("results", relay, f"{results}:7470", f"{coordinator}:7470", "0")
        self.run("results", relay, f"{results}:7471", f"{coordinator}:7471", delay)
        for host in ("worker1", "worker2"):
            self.run(host, relay, f"{self.address(host)}:7480", "127.0.0.1:7480", delay)
        self.run("coordinator", programs / "paceline-coordinator", "--config", "/dev/null", "--model",
                 model, "--http", self.http, "--api-key-file", keys, "--cluster", "0.0.0.0:7470",
                 "--insecure", "--workers", 2, "--context", 4096)
        for i, joins in ((1, coordinator), (2, results)):
            self.run(f"worker{i}", "taskset", "-c", cores[(i - 1) % len(cores)],
                     programs / "paceline-worker", "--config", "/dev/null", "--coordinator",
                     f"{joins}:7470", "--data", "127.0.0.1:7480", "--advertise",
                     f"{self.address(f'worker{i}')}:7480", "--insecure", "--threads", 1, "--memory",
                     "3GiB", "--name", f"w{i}")
            self.wait(lambda i=i: len(self.about().get("workers", [])) == i)
        self.wait(lambda: self.about().get("ready"))

    def about(self):
        connection = http.client.HTTPConnection(self.http, timeout=10)
        try:
            connection.request("GET", "/cluster", headers={"Authorization": f"Bearer {KEY}"})
            return json.loads(connection.getresponse().read())
        except OSError:
            return {}
        finally:
            connection.close()

    def wait(self, condition, limit_s=60):
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end or any(p.poll() is not None for p in self.processes):
                logs = "\n".join(f"--- {f.name}\n{f.read_text()}" for f in self.folder.glob("*.log"))
                raise RuntimeError(f"the hosts did not come into service:\n{logs}")
            time.sleep(0.05)

    def close(self):
        for p in reversed(self.processes):
            p.terminate()
        for p in self.processes:
            try:
                p.wait(15)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self.network.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
