"""Where the threads of workers run: cores of their own, one worker for each NUMA node."""
import os
import re
import signal

import pytest

from cluster import Process, environment, wait_until

NOBODY = ("--coordinator", "127.0.0.1:9")  # where no coordinator is
CORES = sorted(os.sched_getaffinity(0))
TWO_NODES = {"HWLOC_SYNTHETIC": "numa:2 core:1 pu:1", "HWLOC_THISSYSTEM": "1"}

pytestmark = [
    pytest.mark.skipif(CORES[:2] != [0, 1], reason="wants CPUs 0 and 1"),
    pytest.mark.skipif("@paceline/processor/" in open("/proc/net/unix").read(),
                       reason="other workers run on this machine"),
]


@pytest.fixture
def start(tmp_path):
    """Starts a worker as a user would who has set nothing."""
    started = []

    def worker(name, *options, **more):
        env = environment(tmp_path, **more)
        del env["OMP_WAIT_POLICY"]
        started.append(Process("paceline-worker", [*NOBODY, "--verbose", "--name", name, *options],
                               tmp_path / (name + ".log"), env))
        return started[-1]

    yield worker
    for process in started:
        process.stop()


def threads(pid):
    """The cores that each thread of a process may use."""
    found = []
    for task in os.listdir("/proc/%d/task" % pid):
        status = open("/proc/%d/task/%s/status" % (pid, task)).read()
        found.append(re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.M).group(1))
    return found


def children(pid):
    return [int(p) for p in open("/proc/%d/task/%d/children" % (pid, pid)).read().split()]


def bound(process, n, starts=1):
    """Cores of threads that have one, as soon as there are n. (While it looks at the machine, hwloc
    binds the program's only thread here and there.)"""
    if len(placed(process.text())) < starts or len(threads(process.pid)) < 4:
        return None
    alone = sorted(c for c in threads(process.pid) if c.isdigit())
    return alone if len(alone) >= n else None


def placed(text):
    return re.findall(r"(\d+) threads, (\d+) of \d+ cores claimed", text)


def test_a_core_has_one_worker(start):
    first = start("first", "--threads", "1")
    wait_until(lambda: bound(first, 1), 20, "a bound thread")
    # The second gets what is left, and then waits asleep: it has begun anew.
    second = start("second", "--threads", str(len(CORES)))
    wait_until(lambda: bound(second, len(CORES) - 1, starts=2), 20, "a bound thread")
    assert not set(bound(first, 1)) & set(bound(second, 1))
    policy = open("/proc/%d/environ" % second.pid).read()
    assert "OMP_WAIT_POLICY=passive" in policy
    assert "OMP_WAIT_POLICY" not in open("/proc/%d/environ" % first.pid).read()
    for process in (first, second):
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
    assert placed(first.text())[0] == ("1", "1")
    assert placed(second.text())[-1] == (str(len(CORES)), str(len(CORES) - 1))


def test_no_pin(start):
    process = start("free", "--no-pin")
    wait_until(lambda: bound(process, 0) is not None, 20, "threads")
    assert bound(process, 0) == []
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_worker_for_each_node(start):
    parent = start("desk", "--numa", "--memory", "1GiB", **TWO_NODES)
    wait_until(lambda: len(children(parent.pid)) == 2, 20, "two workers")
    both = children(parent.pid)
    for node, pid in enumerate(both):
        wait_until(lambda p=pid, n=node: set(threads(p)) == {str(n)}, 20, "threads of a node")
    parent.signal(signal.SIGTERM)
    assert parent.wait() == 0
    assert parent.text().count("leaving") == 2


def test_nodes_end_together(start):
    parent = start("desk", "--numa", **TWO_NODES)
    wait_until(lambda: len(children(parent.pid)) == 2, 20, "two workers")
    os.kill(children(parent.pid)[1], signal.SIGKILL)
    assert parent.wait() == 1
    assert "worker desk-1 was ended by signal 9" in parent.text()


def test_one_node_is_one_worker(start):
    process = start("desk", "--numa", HWLOC_SYNTHETIC="numa:1 core:2 pu:1",
                     HWLOC_THISSYSTEM="1")
    wait_until(lambda: "cores claimed" in process.text(), 20, "a worker")
    assert children(process.pid) == []
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
