#!/usr/bin/env python3
"""What constrained decoding costs: the time of a token with a JSON schema and without, one stream.

    tests/bench/constraint_cost.py MODEL [--rounds N] [--threads N] [--cases FILE]

Each round asks every case twice, in turns: with its schema, and without it for as many tokens of
the same prompt; what counts is the time from one token to the next. On a machine that does other
things the quartile below says more than the mean, and what it does hits both alike. The first round
makes every mask for the first time and is told, not counted. FILE: cases as {"schemas": [{"name",
"schema"}]}; without it some that are written here.
"""
import argparse
import json
import pathlib
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "pipeline"))
from cluster import Cluster  # noqa: E402

PERSON = {"type": "object", "required": ["name", "age", "email", "tags"],
          "additionalProperties": False,
          "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0},
                         "email": {"type": "string", "format": "email"},
                         "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5}}}
CASES = [{"name": "a person", "schema": PERSON},
         {"name": "three people", "schema": {"type": "array", "items": PERSON, "minItems": 3}},
         {"name": "any object", "schema": {"type": "object"}},
         {"name": "a short text", "schema": {"type": "string", "minLength": 40, "maxLength": 200}}]
FEWEST_TOKENS = 10


def gaps(cluster, body):
    """Seconds from each token's event to the next."""
    found, before = [], None
    for event in cluster.stream("/v1/chat/completions", {**body, "stream": True}, limit_s=600):
        now = time.perf_counter()
        if event["choices"] and event["choices"][0]["delta"].get("content"):
            if before is not None:
                found.append(now - before)
            before = now
    return found


def measure(cluster, cases, turn):
    """All gaps of a round: with the schemas, without."""
    bound_gaps, free_gaps = [], []
    for i, case in enumerate(cases):
        body = {"messages": [{"role": "user", "content": f"Write JSON: {case['name']}, as an "
                              f"example of this schema: {json.dumps(case['schema'])}"}],
                "max_tokens": 150, "temperature": 0.7, "seed": 1}
        bound = {**body, "response_format": {
            "type": "json_schema", "json_schema": {"name": "x", "schema": case["schema"]}}}
        if "tokens" not in case:
            case["tokens"] = len(gaps(cluster, bound)) + 1
        if case["tokens"] < FEWEST_TOKENS:
            continue  # a few tokens say little
        free = {**body, "max_tokens": case["tokens"], "ignore_eos": True}
        if (turn + i) % 2:
            free_gaps += gaps(cluster, free)
            bound_gaps += gaps(cluster, bound)
        else:
            bound_gaps += gaps(cluster, bound)
            free_gaps += gaps(cluster, free)
    return bound_gaps, free_gaps


def tell(name, bound, free):
    quartiles = [statistics.quantiles(x, n=4) for x in (bound, free)]
    for q, what in enumerate(("quartile below", "median", "quartile above")):
        with_it, without = quartiles[0][q], quartiles[1][q]
        print(f"{name}, {what}: {1000 * with_it:.2f} ms a token with a schema, "
              f"{1000 * without:.2f} without: {100 * (with_it / without - 1):+.2f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases")
    arguments = parser.parse_args()
    cases = json.load(open(arguments.cases))["schemas"] if arguments.cases else CASES
    with tempfile.TemporaryDirectory() as home, \
            Cluster(home, arguments.model, threads=arguments.threads,
                    options=["--context", "4096"]) as cluster:
        tell("first round", *measure(cluster, cases, 0))
        bound, free = [], []
        for turn in range(arguments.rounds):
            found = measure(cluster, cases, turn)
            bound += found[0]
            free += found[1]
        tell(f"{arguments.rounds} rounds, {len(bound)} tokens", bound, free)


if __name__ == "__main__":
    main()
