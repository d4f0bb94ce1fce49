"""Golden logits of the tiny models, and how far ours may be from them (no numpy: rows are short)."""

import array
import json
import math

from cluster import DATA


def floats(data):
    values = array.array("f")
    values.frombytes(data)
    return values


class Golden:
    """Logits at every position of some prompts, computed elsewhere in float32."""

    def __init__(self, model, kind):
        folder = DATA / "models" / model / "golden"
        about = json.loads((folder / f"{kind}.json").read_text())
        self.rows, self.vocabulary = about["logits"]["shape"]
        self.values = floats((folder / about["logits"]["file"]).read_bytes())
        assert len(self.values) == self.rows * self.vocabulary
        self.prompts = about["prompts"]

    def row(self, number):
        return self.values[number * self.vocabulary:(number + 1) * self.vocabulary]

    def compare(self, prompt, data):
        """(largest difference relative to the row's range, mean KL, largest KL) of one prompt's
        logits, given as bytes."""
        got = floats(data)
        assert len(got) == prompt["n"] * self.vocabulary
        relative, divergences = 0.0, []
        for i in range(prompt["n"]):
            want = self.row(prompt["logits_row"] + i)
            have = got[i * self.vocabulary:(i + 1) * self.vocabulary]
            assert all(map(math.isfinite, have))
            spread = max(want) - min(want)
            relative = max(relative, max(abs(a - b) for a, b in zip(want, have)) / spread)
            divergences.append(divergence(want, have))
        return relative, sum(divergences) / len(divergences), max(divergences)


def divergence(want, have):
    """KL(want || have), in nats."""
    def log_sum(row):
        top = max(row)
        return top + math.log(sum(math.exp(x - top) for x in row))
    a, b = log_sum(want), log_sum(have)
    return sum(math.exp(x - a) * ((x - a) - (y - b)) for x, y in zip(want, have))
