"""Fixtures of the system tests: a home for state, and the watch over processes."""

import contextlib
import os
import signal
import time
import uuid

import pytest

import cluster


@pytest.fixture(scope="session", autouse=True)
def no_process_survives():
    """Whatever the tests start, nothing of it lives when they are done."""
    mark = uuid.uuid4().hex
    os.environ[cluster.MARK] = mark
    yield
    end = time.monotonic() + 5  # what was killed a moment ago may still be on its way out
    while (left := cluster.survivors(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"these processes outlived the tests: {left}"


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """PACELINE_HOME of this run."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def pair(home):
    """Two workers with a five-layer model, for tests that leave it as it was."""
    with cluster.Cluster(home, cluster.model_path("qwen2-tied-Q8_0"), workers=2,
                         options=["--alias", "tiny", "--concurrency", "8"]) as c:
        yield c


def pytest_configure(config):
    for program in ("paceline", "paceline-coordinator", "paceline-worker"):
        if not (cluster.PROGRAMS / program).exists():
            raise pytest.UsageError(f"{cluster.PROGRAMS / program} is not there: build first, or "
                                    "set PACELINE_BIN to the folder of programs")
