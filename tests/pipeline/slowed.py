"""A process that has only a share of a processor: by a cgroup's quota where one may be made, else by
stopping and continuing it. Measuring programs use it as the slow machine of a cluster."""
import os
import pathlib
import signal
import threading
import time

PERIOD_S = 0.006  # short beside a step of a large model, long beside a wake-up


class Quota:
    """A cgroup of its own (version 1's cpu controller, or version 2)."""

    def __init__(self, pid, share):
        v1, v2 = pathlib.Path("/sys/fs/cgroup/cpu"), pathlib.Path("/sys/fs/cgroup")
        self.folder = (v1 if v1.is_dir() else v2) / f"slowed-{pid}"
        self.folder.mkdir()
        period, quota = int(PERIOD_S * 1e6), int(PERIOD_S * 1e6 * share)
        try:
            if v1.is_dir():
                (self.folder / "cpu.cfs_period_us").write_text(str(period))
                (self.folder / "cpu.cfs_quota_us").write_text(str(quota))
            else:
                (self.folder / "cpu.max").write_text(f"{quota} {period}")
            (self.folder / "cgroup.procs").write_text(str(pid))
        except OSError:
            self.folder.rmdir()
            raise

    def stop(self):
        """Once the process has ended."""
        for _ in range(100):
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.05)


class Duty(threading.Thread):
    def __init__(self, pid, share):
        super().__init__(daemon=True)
        self.pid, self.share, self.stopped = pid, share, threading.Event()
        self.start()

    def run(self):
        try:
            while not self.stopped.is_set():
                os.kill(self.pid, signal.SIGSTOP)
                time.sleep(PERIOD_S * (1 - self.share))
                os.kill(self.pid, signal.SIGCONT)
                time.sleep(PERIOD_S * self.share)
        except ProcessLookupError:
            pass

    def stop(self):
        self.stopped.set()
        self.join()


def slow_down(pid, share):
    """Returns what stop() ends, after the process."""
    try:
        return Quota(pid, share)
    except OSError:
        return Duty(pid, share)
