"""A coordinator and two workers of one thread on hosts of their own, which are network namespaces;
on each hop a relay (delay_relay) adds a time. The namespaces hang on one bridge:

    coordinator .1:7470 ⇢ worker 1 .2:7480 ⇢ worker 2 .3:7480 ⇢ results .4:7471 → coordinator .1:7471

⇢ goes through a relay. Workers bind 127.0.0.1 and advertise their relay's address; worker 2 joins by
way of .4, so it sends results there too. Claims of cores do not reach across namespaces, so each
worker is given a core by hand."""

import http.client
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

NET = "10.213.57"
HOSTS = ("coordinator", "worker1", "worker2", "results")
KEY = "bench"


def impossible():
    """Why it cannot be done here, or None."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    if not shutil.which("ip"):
        return "there is no program 'ip' (package iproute2)"
    done = subprocess.run(["ip", "netns", "add", "pacebench-try"], capture_output=True, text=True)
    if done.returncode:
        return f"no network namespaces here: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", "pacebench-try"], check=True)
    return None


def ip(*words):
    subprocess.run(["ip", *words], check=True)


class Hosts:
    """As cluster.Cluster, as far as the bench needs it."""

    def __init__(self, home, model, relay, delay_us):
        self.name, self.processes = f"pb{os.getpid()}", []
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=home))
        self.http, self.key = f"{NET}.1:8080", KEY
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PACELINE_")}
        self.env["PACELINE_HOME"] = str(home)
        try:
            self.make_network()
            self.start(model, relay, str(delay_us))
        except BaseException:
            self.close()
            raise

    def make_network(self):
        ip("link", "add", self.name, "type", "bridge")
        ip("addr", "add", f"{NET}.254/24", "dev", self.name)
        ip("link", "set", self.name, "up")
        for i, host in enumerate(HOSTS, 1):
            space = f"{self.name}-{host}"
            ip("netns", "add", space)
            ip("link", "add", f"{self.name}v{i}", "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", f"{self.name}v{i}", "master", self.name, "up")
            for words in (("addr", "add", f"{NET}.{i}/24", "dev", "eth0"),
                          ("link", "set", "eth0", "up"), ("link", "set", "lo", "up")):
                ip("-n", space, *words)

    def run(self, host, *command):
        log = open(self.folder / f"{host}-{len(self.processes)}.log", "wb")
        with log:
            self.processes.append(subprocess.Popen(
                ["ip", "netns", "exec", f"{self.name}-{host}", *map(str, command)], env=self.env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT))

    def start(self, model, relay, delay):
        programs = relay.parent
        keys = self.folder / "keys"
        keys.write_text(f"{KEY}\n")
        keys.chmod(0o600)
        cores = sorted(os.sched_getaffinity(0))[:2]
        self.run("results", relay, f"{NET}.4:7470", f"{NET}.1:7470", "0")
        self.run("results", relay, f"{NET}.4:7471", f"{NET}.1:7471", delay)
        self.run("worker1", relay, f"{NET}.2:7480", "127.0.0.1:7480", delay)
        self.run("worker2", relay, f"{NET}.3:7480", "127.0.0.1:7480", delay)
        self.run("coordinator", programs / "paceline-coordinator", "--config", "/dev/null", "--model",
                 model, "--http", self.http, "--api-key-file", keys, "--cluster", "0.0.0.0:7470",
                 "--insecure", "--workers", 2, "--context", 4096)
        for i, joins in ((1, 1), (2, 4)):
            self.run(f"worker{i}", "taskset", "-c", cores[(i - 1) % len(cores)],
                     programs / "paceline-worker", "--config", "/dev/null", "--coordinator",
                     f"{NET}.{joins}:7470", "--data", "127.0.0.1:7480", "--advertise",
                     f"{NET}.{i + 1}:7480", "--insecure", "--threads", 1, "--memory", "3GiB",
                     "--name", f"w{i}")
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
        for host in HOSTS:
            subprocess.run(["ip", "netns", "del", f"{self.name}-{host}"], capture_output=True)
        subprocess.run(["ip", "link", "del", self.name], capture_output=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()
