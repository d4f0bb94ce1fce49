"""One run of the chaos test: undisturbed answers, a cluster, traffic, troubles, and what came of it."""

import collections
import statistics
import time

import hosts
from chaos_clients import Traffic, answer_all, make_questions
from chaos_faults import Trouble, schedule
from chaos_machines import LIMIT_S, Place
from chaos_watch import Watch
from cluster import Cluster, free_port_pair, model_path, wait_until

MODEL = model_path("qwen2-tied-Q8_0")
MACHINES, CUTS, RELAYS = 4, "2,4", (1, 3)  # three stages, and one who stands by
OPTIONS = ["--context", 1024, "--concurrency", 8, "--stop-grace", 1, "--response-memory", "1MiB"]


def prepare(home, questions):
    """Answers them undisturbed. Returns how much memory is too little for a worker to hold the model
    alone."""
    with Cluster(home, MODEL, workers=1, options=OPTIONS) as c:
        answer_all(c, questions)
        return c.get("/cluster")[1]["workers"][0]["memory_claimed"] * 9 // 10


def settle(place):
    """All is well again, and nothing of the traffic is left. Returns what is not as it should be."""
    wait_until(lambda: all(m.is_here() for m in place.machines), LIMIT_S, "all machines are back")
    place.wait_service()
    wait_until(lambda: place.state().get("running") == 0, LIMIT_S, "nothing runs any more")
    state = place.state()
    problems = []
    if state["kv_blocks_free"] != state["kv_blocks"]:
        problems.append(f"{state['kv_blocks'] - state['kv_blocks_free']} KV blocks were left behind")
    if state["journal"]["state"] != "on":
        problems.append(f"the journal: {state['journal']}")
    return problems


def disturb(place, faults, traffic, tell):
    """The faults, under traffic, to the last answer. Returns what went wrong beside the answers."""
    trouble = Trouble(place, faults)
    traffic.start()
    trouble.run(lambda words: tell(f"{words}; {sum(traffic.answers.values())} answers, "
                                   f"{len(traffic.lost)} lost, {len(traffic.wrong)} wrong, "
                                   f"{len(traffic.hung)} hung"))
    traffic.stop()
    problems = trouble.failures
    try:
        problems += settle(place)
    except AssertionError as e:
        problems.append(str(e))
    return problems + [f"{life['name']} ended by itself with {life['process'].popen.returncode}: "
                       f"{life['process'].log}" for life in place.lives.ended_by_themselves()]


def run(folder, count, gap_s, seed, clients=8, silence_s=1, hung_s=90, tell=lambda words: None):
    """Returns the report, a dictionary."""
    questions = make_questions(16, seed)
    memory = prepare(folder, questions)
    faults = schedule(count, gap_s, seed)
    with hosts.Network(MACHINES) as network, \
         Place(folder / "place", MODEL, network, free_port_pair(1), CUTS, relays=RELAYS,
               options=OPTIONS, memory=memory, silence_s=silence_s) as place:
        place.start()
        watch, traffic = Watch(place.lives), Traffic(place, questions, clients, seed, hung_s)
        watch.start()
        began = time.monotonic()
        problems = disturb(place, faults, traffic, tell)
        seconds = round(time.monotonic() - began)
        watch.stop()
        problems += place.stop()
    return {"seed": seed, "seconds": seconds, "problems": problems,
            "restart_s": [round(s, 2) for s in place.restarts_s],
            **report_of_traffic(traffic), **report_of_faults(faults, traffic.pauses),
            **report_of_lives(watch)}


def report_of_traffic(traffic):
    return {"answers": traffic.answers, "tokens": traffic.n_tokens, "resumed": traffic.n_resumed,
            "asked_again": traffic.n_again, "lost": traffic.lost, "wrong": traffic.wrong,
            "hung": traffic.hung}


def report_of_faults(faults, pauses):
    by_kind = collections.defaultdict(list)
    for f in faults:
        by_kind[f.kind].append(pause_of(f, pauses))
    every = [p for of_kind in by_kind.values() for p in of_kind]
    return {"faults": {kind: len(p) for kind, p in sorted(by_kind.items())},
            "pause_s": {"all": spread(every), **{kind: spread(p) for kind, p in by_kind.items()}}}


def pause_of(fault, pauses):
    """The longest of any stream that touches its time, in seconds."""
    end = fault.ended_s or time.monotonic()
    return max((b - a for a, b in pauses if a <= end and b >= fault.begun_s), default=0)


def spread(values):
    """[median, worst]"""
    return [round(statistics.median(values), 2), round(max(values), 2)]


def report_of_lives(watch):
    lives = watch.report()
    return {"lives": lives, "is_flat": all(life["is_flat"] for life in lives)}


def is_good(report):
    return report["is_flat"] and not (report["lost"] or report["wrong"] or report["hung"] or
                                      report["problems"])


def words(r):
    """The report for people."""
    pause, n_answers = r["pause_s"], sum(r["answers"].values())
    lines = [f"{sum(r['faults'].values())} faults in {r['seconds']} s (seed {r['seed']}); longest pause "
             f"of a stream meanwhile: median {pause['all'][0]:.2f} s, worst {pause['all'][1]:.2f} s"]
    lines += [f"  {kind:18}{n:4}   median {pause[kind][0]:6.2f} s, worst {pause[kind][1]:6.2f} s"
              for kind, n in r["faults"].items()]
    lines.append(f"{n_answers} answers ({r['answers']}) of {r['tokens']} tokens, all compared: "
                 f"lost {len(r['lost'])}, wrong {len(r['wrong'])}, hung {len(r['hung'])}")
    lines.append(f"{r['resumed']} times a stream was gone on with after a break, {r['asked_again']} times "
                 "was asked again what the coordinator had not given a name yet")
    if r["restart_s"]:
        lines.append("from the coordinator's start to service: median {:.2f} s, worst {:.2f} s".format(
            *spread(r["restart_s"])))
    if r["lives"]:
        lines.append(f"memory and descriptors are {'' if r['is_flat'] else 'NOT '}flat:")
    else:
        lines.append("memory and descriptors were not judged: no process lived long enough")
    lines += ["  {name:12}{seconds:5} s   {mib[0]:6.1f} -> {mib[1]:6.1f} MiB (most {most_mib:.1f}), "
              "{fds[0]:.0f} -> {fds[1]:.0f} descriptors (most {most_fds})".format(**life) +
              ("" if life["is_flat"] else "   NOT FLAT") for life in r["lives"]]
    for what in ("lost", "wrong", "hung", "problems"):
        lines += [f"{what}: {text[:1500]}" for text in r[what][:10]]
    return "\n".join(lines)
