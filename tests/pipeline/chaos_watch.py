"""Memory and file descriptors of every process of the chaos test over time, and whether they are flat.

The criterion: in each life of a process, warm-up left aside, the median of the last third is at most
MORE_FDS descriptors, and MORE_SHARE of the memory and MORE_MIB on top, above that of the first. Memory
is what is anonymous: files that are mapped are the system's to take back."""

import os
import pathlib
import re
import statistics
import threading

EVERY_S = 0.5
WARM_UP_S = 10
SHORTEST_S = 30  # of a life that can be judged
MORE_FDS, MORE_SHARE, MORE_MIB = 8, 0.1, 4


def look(pid):
    """(MiB, descriptors), or None when it has ended."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        memory = re.search(r"^RssAnon:\s+(\d+) kB", status, re.M)
        return int(memory[1]) / 1024, len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, TypeError):
        return None


class Watch(threading.Thread):
    """lives: chaos_machines.Lives."""

    def __init__(self, lives):
        super().__init__(daemon=True)
        self.lives, self.is_over, self.samples = lives, threading.Event(), {}

    def run(self):
        while not self.is_over.wait(EVERY_S):
            for life in self.lives.all():
                process = life["process"]
                if process.is_alive() and (seen := look(process.pid)):
                    self.samples.setdefault((life["name"], process.pid), []).append(seen)

    def stop(self):
        self.is_over.set()
        self.join()

    def report(self):
        """For each life that was long enough: begin, end, whether it was flat."""
        found = []
        for (name, pid), samples in self.samples.items():
            seconds = len(samples) * EVERY_S
            kept = samples[int(WARM_UP_S / EVERY_S):]
            if seconds < SHORTEST_S + WARM_UP_S:
                continue
            third = len(kept) // 3
            first, last = ([statistics.median(column) for column in zip(*part)]
                           for part in (kept[:third], kept[-third:]))
            found.append({
                "name": name, "pid": pid, "seconds": round(seconds),
                "mib": [round(first[0], 1), round(last[0], 1)], "fds": [first[1], last[1]],
                "most_mib": round(max(s[0] for s in kept), 1), "most_fds": max(s[1] for s in kept),
                "is_flat": last[1] <= first[1] + MORE_FDS and
                last[0] <= first[0] * (1 + MORE_SHARE) + MORE_MIB})
        return sorted(found, key=lambda life: -life["seconds"])
