"""The other policies that follow losses, once more in plain Python on lists: a second opinion for golden trajectories.

`python -m tests.reweight.reference_rivals` writes tests/golden/, one file a policy.
"""

from __future__ import annotations

import json
import math
import random

from tests.reweight.reference import GOLDEN

TOPICS = ["Culture", "Law", "Lists", "Sports", "Universe"]
SIZES = [5000.0, 3000.0, 1000.0, 800.0, 200.0]
TARGET = [2.0, 1.5, 2.5, 2.0, 2.2]
NATURAL = [size / sum(SIZES) for size in SIZES]
NGRAM, UNIGRAM = [4.0, 4.4, 6.3, 1.1, 4.2], [6.2, 6.3, 6.2, 5.0, 6.4]
"""Nats a token before training: 'Lists' is noise, 'Sports' is nearly known by heart."""
GAIN = [[g * min(1, (i + 1) / 20) for g in (2.5, 2.2, 0.02, 3.0, 2.4)] for i in range(32)]
"""By interval, S - L: how much better a topic's tokens are predicted in their own places."""
WORD_GAIN = [[g * min(1, (i + 1) / 20) for g in (1.9, 0.9, 0.01, 1.2, 2.0)] for i in range(32)]
"""The same of the tokens that begin a word; in each topic, half of all tokens."""
TOKENS = [4100.0, 2600.0, 1900.0, 500.0, 160.0]
"""That an interval shows of each topic, where it shows any."""
SAMPLES = 7
SWITCH_STEP = 400


def softmax(values):
    top = max(values)
    powers = [math.exp(v - top) for v in values]
    return [p / sum(powers) for p in powers]


def group_dro(courses):
    shares, excess = NATURAL, [None] * 5
    for losses, _ in courses:
        excess = [e if x is None else max(x - t, 0) for x, t, e in zip(losses, TARGET, excess, strict=True)]
        seen = sum(p for p, e in zip(shares, excess, strict=True) if e is not None)
        grown = [None if e is None else p * math.exp(e) for p, e in zip(shares, excess, strict=True)]
        total = sum(g for g in grown if g is not None)
        moved = [p if g is None else g / total * seen for p, g in zip(shares, grown, strict=True)]
        shares = [0.999 * p + 0.001 / 5 for p in moved]
        yield [p / n for p, n in zip(shares, NATURAL, strict=True)]


def shearing(courses):
    shares = NATURAL
    for losses, _ in courses:
        distance = [0.0 if x is None else x - t for x, t in zip(losses, TARGET, strict=True)]
        moved = softmax([math.log(p) + d for p, d in zip(shares, distance, strict=True)])
        shares = [0.9999 * p + 0.0001 / 5 for p in moved]
        yield [p / n for p, n in zip(shares, NATURAL, strict=True)]


def odm(courses):
    shares, reward, before = [0.2] * 5, [0.0] * 5, 0.2
    for t, (losses, _) in enumerate(courses, start=1):
        reward = [r if x is None else 0.9 * r + 0.1 * x / p for x, r, p in zip(losses, reward, shares, strict=True)]
        now = min(0.2, math.sqrt(math.log(5) / (5 * t)))
        shares = [(1 - 5 * now) * p + now for p in softmax([before * r for r in reward])]
        before = now
        yield [p / n for p, n in zip(shares, NATURAL, strict=True)]


def power_law(points):
    """Exponent a and b n^-a at the last point of L = e + b n^-a, e and b at least 0: the best of a grid over a."""
    last, best = points[-1][0], (math.inf, 0.0, 0.0)
    known = [(n, y) for n, y in points if y is not None]
    if len(known) < 4:
        return 0.0, 0.0
    for k in range(76):
        a = 0.05 + 0.01 * k
        xs, ys = [(n / last) ** -a for n, _ in known], [y for _, y in known]
        mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
        b = sum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True)) / sum((x - mx) ** 2 for x in xs)
        b = max(b, 0.0)
        e = my - b * mx
        if e < 0:
            e, b = 0.0, sum(x * y for x, y in zip(xs, ys, strict=True)) / sum(x * x for x in xs)
        error = sum((e + b * x - y) ** 2 for x, y in zip(xs, ys, strict=True))
        best = min(best, (error, a, b))
    return best[1:]


def ado(courses):
    """After a burn-in of 100 steps."""
    shares = history = mean_rho = NATURAL
    points = []
    for t, (losses, _) in enumerate(courses, start=1):
        history = [0.9 * h + 0.1 * p for h, p in zip(history, shares, strict=True)]
        if 25 * t >= 100:
            points.append(losses)
        if len(points) >= 4:
            steps = [25 * (t - len(points) + 1 + i) for i in range(len(points))]
            fits = [power_law([(n, row[k]) for n, row in zip(steps, points, strict=True)]) for k in range(5)]
            desire = [n * math.sqrt(h * (1 - h)) * a * b for n, h, (a, b) in zip(NATURAL, history, fits, strict=True)]
            rho = [max(d / sum(desire), 0.01) for d in desire]
            rho = [r / sum(rho) for r in rho]
            shares = [0.9 * m + 0.1 * r for m, r in zip(mean_rho, rho, strict=True)]
            shares = [p / sum(shares) for p in shares]
            mean_rho = [m + (r - m) / (t + 1) for m, r in zip(mean_rho, rho, strict=True)]
        yield [p / n for p, n in zip(shares, NATURAL, strict=True)]


def by_size(exponent):
    """Shares proportional to size^exponent, whatever the losses."""

    def weights(courses):
        powers = [s**exponent for s in SIZES]
        for _ in courses:
            yield [p / sum(powers) / n for p, n in zip(powers, NATURAL, strict=True)]

    return weights


def linupper(courses):
    """The losses of an interval taken for those of a batch of samples; an unseen one is no sample."""
    for losses, _ in courses:
        seen = [x for x in losses if x is not None]
        low, high = min(seen), max(seen)
        scores = [min((2 * x - high - low) / (high - low) + 1, 1) / 0.4 for x in seen]
        yield [len(seen) * w for w in softmax(scores)]


def between(low, high, shares):
    """The shares times one factor, those that come to lie below `low` or above `high` put there."""
    least, most = 0.0, 100.0
    for _ in range(100):
        c = (least + most) / 2
        total = sum(min(b, max(a, c * s)) for a, b, s in zip(low, high, shares, strict=True))
        least, most = (c, most) if total < 1 else (least, c)
    return [min(b, max(a, c * s)) for a, b, s in zip(low, high, shares, strict=True)]


def relative_worth(losses, gains):
    """u, v or w of each topic; 1 where nothing is known."""
    known = [k for k in range(5) if losses[k] is not None]
    worth = {k: losses[k] * max(gains[k], 0) for k in known}
    total, reached, middle = sum(NATURAL[k] for k in known), 0.0, None
    for k in sorted(known, key=worth.get):
        reached += NATURAL[k]
        if middle is None and reached >= total / 2:
            middle = worth[k]
    return [min(worth[k] / middle, 1) if k in known else 1.0 for k in range(5)]


def toremi(courses):
    gain_before = [b - a for a, b in zip(NGRAM, UNIGRAM, strict=True)]
    u = relative_worth(NGRAM, gain_before)
    even = between([0.8 * n for n in NATURAL], [min(1, 5 * n) for n in NATURAL], [0.2] * 5)
    sums, total = [[0.0, 0.0, 0.0, 0.0] for _ in TOPICS], 0.0
    for (losses, _), gains, word_gains in zip(courses, GAIN, WORD_GAIN, strict=True):
        seen = [k for k in range(5) if losses[k] is not None]
        earlier, total = total, total + sum(TOKENS[k] for k in seen)
        sums = [[x * (earlier / total) ** 4 for x in row] for row in sums]
        for k in seen:
            new = (losses[k], gains[k], word_gains[k], 1)
            sums[k] = [x + TOKENS[k] * y for x, y in zip(sums[k], new, strict=True)]
        loss, gain, word_gain = ([row[j] / row[3] if row[3] else None for row in sums] for j in range(3))
        v, w = relative_worth(loss, gain), relative_worth(loss, word_gain)
        wanted = []
        for i, (part, natural) in enumerate(zip(even, NATURAL, strict=True)):
            none = gain[i] is None or gain_before[i] <= 0
            k = 1.0 if none else min(1, max(gain[i], 0) / gain_before[i])
            trust = min(1, u[i] * (v[i] * w[i]) ** k / 0.65) ** 8
            raised = part / natural
            wanted.append(natural * trust * (raised**trust if raised > 1 else raised))
        yield [w / sum(wanted) / n for w, n in zip(wanted, NATURAL, strict=True)]


REFERENCES = {
    "toremi": toremi,
    "group-dro": group_dro,
    "shearing": shearing,
    "odm": odm,
    "ado": ado,
    "stratified": by_size(0.0),
    "temperature": by_size(0.3),
    "linupper": linupper,
}


def _losses(num_intervals):
    """Power laws with a little jitter, and now and then a topic unseen; 'Lists' is noise, which stops falling."""
    stream = random.Random(20250401)
    for i in range(1, num_intervals + 1):
        curves = [3 + 5 * i**-0.5, 2 + 3 * i**-0.5, 4 + 3 * i**-2.0, 1 + 2 * i**-0.4, 3 + 4 * i**-0.6]
        losses = [x * (1 + stream.uniform(-0.005, 0.005)) for x in curves]
        yield 25 * i, [x if stream.random() > 0.1 else None for x in losses]


def main():
    """Write tests/golden/*.json."""
    rows = list(_losses(32))
    courses = [(losses, 2 if step >= SWITCH_STEP else 1) for step, losses in rows]
    for name, function in REFERENCES.items():
        case = {"policy": name, "switch_step": SWITCH_STEP, "topics": TOPICS, "sizes": SIZES, "target": TARGET}
        if name == "toremi":
            case |= {"ngram_loss": NGRAM, "unigram_loss": UNIGRAM, "gain": GAIN}
            case |= {"word_gain": WORD_GAIN, "tokens": TOKENS}
        case |= {"samples": SAMPLES, "losses": rows, "course": list(function(courses))}
        (GOLDEN / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    main()
