"""The other policies that follow losses, once more in plain Python on lists: a second opinion for golden trajectories.

`python -m tests.reweight.reference_rivals` writes tests/golden/, one file a policy.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics

from tests.reweight.reference import GOLDEN

TOPICS = ["Culture", "Law", "Lists", "Sports", "Universe"]
SIZES = [5000.0, 3000.0, 1000.0, 800.0, 200.0]
TARGET = [2.0, 1.5, 2.5, 2.0, 2.2]
NATURAL = [size / sum(SIZES) for size in SIZES]
BYTES = [3.5, 3.4, 1.5, 6.0, 3.6]
"""A token; 'Lists' has as many as shuffled characters have, 'Sports' is known by heart."""
SENSITIVITY = [[0.83, 0.85, 0.72, 0.20, 0.86]] * 12 + [[0.83, 0.85, 0.88, 0.20, 0.86]] * 20
"""By interval; when 'Lists' has been held down for a while, it moves the model more than the others do."""
SAMPLES = 7
TEXT = [4100.0, 2600.0, 1900.0, 500.0, 160.0]
"""Bytes that an interval shows of each topic, where it shows any."""
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


def progress(points):
    """Slope and its error of weighted points (weight, x, y)."""
    total = sum(w for w, _, _ in points)
    mx, my = (sum(w * p[k] for w, *p in points) / total for k in (0, 1))
    sxx = sum(w * (x - mx) ** 2 for w, x, _ in points)
    slope = sum(w * (x - mx) * (y - my) for w, x, y in points) / sxx
    residual = sum(w * (y - my - slope * (x - mx)) ** 2 for w, x, y in points)
    return -slope, math.sqrt(residual / max(total - 2, 0.5) / sxx)


def median(values, text):
    """Where half of the text lies on either side, half of each topic's own below its value; by bisection."""
    points = sorted(zip(values, text, strict=True))
    places = [(v, sum(t for _, t in points[:k]) + t / 2) for k, (v, t) in enumerate(points)]

    def below(value):
        for (v, before), (w, after) in itertools.pairwise(places):
            if v <= value < w:
                return before + (after - before) * (value - v) / (w - v)
        return 0.0 if value < places[0][0] else places[-1][1]

    low, high = places[0][0], places[-1][0]
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < sum(text) / 2 else (low, middle)
    return high


def centre(values, text):
    middle = median(values, text)
    return middle, 1.4826 * median([abs(v - middle) for v in values], text)


def certainty(z, dead_zone):
    return math.tanh(max(z - dead_zone, 0) / 2)


def progress_scores(points, text):
    """Of each topic's weighted points (weight, log samples, log loss): standard score of its progress, and whether the
    error of that is at most two thirds of the median progress."""
    judged = {k: progress(p) for k, p in enumerate(points) if len(p) >= 4}
    scores = [(0.0, False)] * 5
    if len(judged) >= 2:
        middle, deviation = centre([r for r, _ in judged.values()], [text[k] for k in judged])
        for k, (r, error) in judged.items():
            z = (r - middle) / math.hypot(max(deviation, abs(middle) / 3), error)
            scores[k] = z, error <= 2 / 3 * middle
    return scores


def learning_state(points, text):
    """Verdict on each topic by its progress."""
    gains = [len(p) >= 8 for p in points]
    return [
        -certainty(-z, 1.5) if z <= 0 else 0.5 * certainty(z, 1.5) * gain
        for (z, _), gain in zip(progress_scores(points, text), gains, strict=True)
    ]


def stopped(points, text):
    """How surely each topic stands still while others move, once 8 intervals have seen it."""
    scores = zip(progress_scores(points, text), points, strict=True)
    return [max(-z - 1, 0) * (known and len(p) >= 8) for (z, known), p in scores]


def noise(hard, moving, text, factor, stopped, failed):
    """How surely each topic is hard and moves the model little or stands still, from averaged logarithms.

    One that has lost more than half of its weight is believed to be still, unless it moves the model more than others.
    """
    still = above([-g for g in moving], text)
    lively = [0 if out else -q for q, out in zip(still, failed, strict=True)]
    held = [max(1 - 2 * math.exp(f), 0) * min(max(1 - g, 0), 1) for f, g in zip(factor, lively, strict=True)]
    still = [max(witnesses) for witnesses in zip(still, held, stopped, strict=True)]
    return [
        math.tanh(max(max(h, 0) ** (2 / 3) * max(q, 0) ** (1 / 3) - 1, 0))
        for h, q in zip(above(hard, text), still, strict=True)
    ]


def learnt(hard, moving, text):
    """How surely each topic is easy and moves the model little, from averaged logarithms; 3/2 halvings are nothing."""
    halvings = [[max((median(values, text) - v) / math.log(2), 0) for v in values] for values in (hard, moving)]
    return [math.tanh(max(easy ** (2 / 3) * still ** (1 / 3) - 1.5, 0)) for easy, still in zip(*halvings, strict=True)]


def not_below(low, shares):
    """Shares max(low, c * share) with the factor c that makes them add up to 1, by bisection."""
    least, most = 0.0, 1.0
    for _ in range(100):
        c = (least + most) / 2
        total = sum(max(a, c * s) for a, s in zip(low, shares, strict=True))
        least, most = (c, most) if total < 1 else (least, c)
    return [max(a, c * s) for a, s in zip(low, shares, strict=True)]


def above(values, text):
    middle = median(values, text)
    lowest = sorted(values)[: max(sum(v <= middle for v in values), 3)]
    below = statistics.median(abs(v - middle) for v in lowest)
    return [(v - middle) / max(1.4826 * below, 0.02) for v in values]


def toremi(courses):
    points, factor, levels, evidence = [[] for _ in TOPICS], [0.0] * 5, [[None] * 5, [None] * 5], [0.0] * 5
    total, observed, record, text = 0, [0] * 5, ["free"] * 5, [0.0] * 5

    def noise_of(known):
        hard, moving = ([level[k] for k in known] for level in levels)
        still = [stopped(points, text)[k] * (record[k] == "on trial") for k in known]
        failed = [record[k] == "failed" for k in known]
        factors, texts = [factor[k] for k in known], [text[k] for k in known]
        return dict(zip(known, noise(hard, moving, texts, factors, still, failed), strict=True))

    for (losses, stage), moves in zip(courses, SENSITIVITY, strict=True):
        seen = [k for k, loss in enumerate(losses) if loss is not None]
        text = [t + new * (k in seen) for k, (t, new) in enumerate(zip(text, TEXT, strict=True))]
        evidence = [e * (total / (total + SAMPLES * len(seen))) ** 4 for e in evidence]
        total += SAMPLES * len(seen)
        for k in seen:
            before, now = SAMPLES * max(observed[k], 1 / SAMPLES), SAMPLES * (observed[k] + 1)
            observed[k] += 1
            kept = (before / now) ** 2  # exp(-difference of the logarithms / 0.5)
            points[k] = [(kept * w, a, b) for w, a, b in points[k]]
            points[k].append((1.0, math.log(now), math.log(losses[k])))
        measured = [
            {k: math.log(losses[k] / BYTES[k]) for k in seen},
            {k: math.log(moves[k]) for k in seen},
        ]
        for level, new in zip(levels, measured, strict=True):
            moved = [new[k] - level[k] for k in seen if level[k] is not None]
            drift = statistics.median(moved or new.values())
            for k in seen:
                known = (level[k] or 0.0) * evidence[k]
                level[k] = (known + (new[k] - drift) * SAMPLES) / (evidence[k] + SAMPLES)
        for k in seen:
            evidence[k] += SAMPLES
        known = [k for k in range(5) if levels[0][k] is not None]
        noisy = noise_of(known)
        hard, moving = ([level[k] for k in known] for level in levels)
        easy = dict(zip(known, learnt(hard, moving, [text[k] for k in known]), strict=True))
        state = learning_state(points, text)
        for k in known:
            against = noisy[k] + easy[k]
            verdict = (min(state[k], 0.0) if against > 0 else state[k]) - 2 * against
            low = 0.5 if stage == 1 and noisy[k] == 0 else 0.1
            moved = min(max((factor[k] + 2.0 * verdict) / 2, math.log(low)), math.log(5.0))
            if k in seen or (against > 0 and moved < factor[k]):
                factor[k] = moved
            if noisy[k] > 0 and math.isclose(factor[k], math.log(0.1)):
                if record[k] != "failed":
                    record[k] = "failed" if record[k] == "on trial" and stopped(points, text)[k] > 0 else "condemned"
            elif record[k] in ("condemned", "failed"):
                record[k], points[k] = "on trial", []
        powers = [s**0.1 for s in SIZES]
        low = [0.7 * n if len(p) >= 8 else 0.0 for n, p in zip(NATURAL, points, strict=True)]
        shares = not_below(low, [p / sum(powers) for p in powers])
        base = [s / n for s, n in zip(shares, NATURAL, strict=True)]
        weights = [math.exp(f) * b ** min(math.exp(f), 1) for f, b in zip(factor, base, strict=True)]
        lowest = [math.isclose(f, math.log(0.1)) for f in factor]
        left = 1 - sum(0.1 * n for n, low in zip(NATURAL, lowest, strict=True) if low)
        rest = sum(w * n for w, n, low in zip(weights, NATURAL, lowest, strict=True) if not low)
        yield [0.1 if low else w * left / rest for w, low in zip(weights, lowest, strict=True)]


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
            case |= {"bytes": BYTES, "sensitivity": SENSITIVITY, "text": TEXT}
        case |= {"samples": SAMPLES, "losses": rows, "course": list(function(courses))}
        (GOLDEN / f"{name}.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    main()
