"""ToReMi's rules once more, in plain Python with exact means: the tests' independent second opinion.

`python -m tests.reweight.reference` writes the golden trajectories.
"""

from __future__ import annotations

import json
import random
from fractions import Fraction
from pathlib import Path

GOLDEN = Path(__file__).parent.parent / "golden"


def update(weights, losses, stage, *, rule, alpha, w_min, w_max):
    """One interval: dict topic -> weight, dict topic -> loss of those seen."""
    mean = float(sum(map(Fraction, losses.values())) / len(losses))
    new = dict(weights)
    for topic, loss in losses.items():
        w, diff = weights[topic], loss - mean
        if rule == "multiplicative":
            gap = diff / mean if mean else 0.0
            if stage == 1:
                if gap > 0:
                    new[topic] = min(w * (1 + alpha * gap), w_max)
            elif gap > 0:
                new[topic] = max(w * (1 - alpha * gap), w_min)
            else:
                new[topic] = min(w * (1 + alpha * abs(gap)), w_max)
        elif stage == 1:
            new[topic] = min(w + alpha * diff, w_max) if diff > 0 else 1.0
        elif diff > 0:
            new[topic] = max(w - alpha * diff, w_min)
        else:
            new[topic] = min(w + alpha * abs(diff), w_max)
    return new


def trajectory(policy, rows, switch_step, **options):
    """Rows (step, {topic: loss}) -> one dict of weights a step."""
    topics = sorted({topic for _, losses in rows for topic in losses})
    weights = dict.fromkeys(topics, 1.0)
    course = []
    for step, losses in rows:
        stage = 2 if policy == "toremi-2" and switch_step is not None and step >= switch_step else 1
        if losses and policy != "uniform":
            weights = update(weights, losses, stage, **options)
        course.append({"step": step, "stage": stage, "weights": dict(weights)})
    return course


def _losses(num_intervals):
    stream = random.Random(20250401)
    levels = {"Law": 3.1, "Sports": 4.4, "Lists": 6.0, "Culture": 5.2, "Universe": 4.0}
    for i in range(1, num_intervals + 1):
        falling = {t: level * (0.6 + 0.4 / i) + stream.uniform(-0.3, 0.3) for t, level in levels.items()}
        yield 25 * i, {t: loss for t, loss in falling.items() if stream.random() > 0.15}


def main():
    """Write tests/golden/*.json."""
    constants = {"alpha": 1.0, "w_min": 0.1, "w_max": 5.0}
    for policy in ("toremi-1", "toremi-2"):
        for rule in ("multiplicative", "additive"):
            rows, options = list(_losses(16)), {"rule": rule, **constants}
            case = {"policy": policy, "switch_step": 200, "options": options}
            case["losses"] = [{"step": s, "loss": losses} for s, losses in rows]
            case["course"] = trajectory(policy, rows, 200, **options)
            (GOLDEN / f"{policy}-{rule}.json").write_text(json.dumps(case, indent=1) + "\n")


if __name__ == "__main__":
    main()
