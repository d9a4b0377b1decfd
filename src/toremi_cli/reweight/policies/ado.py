"""Adaptive data optimization: a power law for each topic says where data still buys loss (Jiang et al., arXiv
2410.11820, algorithm 1; github.com/yidingjiang/ado, src/data_selectors/ado.py).

    L_l(n) = e_l + b_l n^(-a_l)                      fitted to the topic's losses; n: steps so far
    speed_l = a_l (L_l(n) - e_l) / n                 = -dL_l/dn
    credit_l = sqrt(h_l (1 - h_l)),  h <- 0.9 h + 0.1 c           c: shares that the interval was drawn by
    rho  ~ natural share * credit * speed,           every share at least 0.01
    p    = 0.9 pbar + 0.1 rho,                       pbar: mean of all rho

Where they differ: the code takes c from what a batch held; here c are the shares in force, also where floor or cap
kept them from p: draws follow them to within a few samples, and small counts add no noise. The paper's credit is h^s
with s = 0.5, the code's, followed here, sqrt(h(1-h)). The code keeps
a in [0.05, 0.8] and, by a penalty, the irreducible loss above exp(0.5); here that is at least 0. The code ignores the
first 1,000 steps and refits every 1,000, on every step's loss smoothed by Savitzky-Golay; here a point is an
interval's mean, and each interval refits. The code minimises a Huber loss in log space from 512 starts with L-BFGS;
here a grid over a with least squares for (e, b) in closed form, which is deterministic and has no starts. With many
topics the lowest share is half the uniform one.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from toremi_cli.reweight.policies.shares import SharePolicy, raised_to
from toremi_cli.reweight.stats import IntervalStats

MIN_SHARE = 0.01
HISTORY = 0.9
SMALLEST_FIT = 4
MAX_POINTS = 128


class Ado(SharePolicy):
    """Topics whose power law still falls steeply are drawn more."""

    name: ClassVar[str] = "ado"
    state: ClassVar[tuple[str, ...]] = ("shares", "history", "mean_rho", "num_updates", "points")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.history = self.natural.clone()
        self.mean_rho = self.natural.clone()
        self.num_updates = 0
        self.points: list[list[Any]] = []
        """[step, losses of the topics, None where not seen] of each update."""

    def _new_shares(self, losses: Tensor, stats: IntervalStats) -> Tensor:
        self.history = HISTORY * self.history + (1 - HISTORY) * self._shares_drawn(stats)
        self.num_updates += 1
        if stats.step < self.config.burn_in_steps:
            return self.shares
        self._remember(stats.step, losses, stats.seen)
        fit = self._fit()
        if fit is None:
            return self.shares
        exponent, reducible = fit
        credit = (self.history * (1 - self.history)).sqrt()
        desire = self.natural * credit * exponent * reducible / max(stats.step, 1)
        if not float(desire.sum()) > 0:
            return self.shares
        rho = raised_to(desire / desire.sum(), MIN_SHARE)
        shares = 0.9 * self.mean_rho + 0.1 * rho
        self.mean_rho = self.mean_rho + (rho - self.mean_rho) / (self.num_updates + 1)
        return shares / shares.sum()

    def _remember(self, step: int, losses: Tensor, seen: Tensor) -> None:
        row = [loss if s else None for loss, s in zip(losses.tolist(), seen.tolist(), strict=True)]
        self.points.append([step, row])
        if len(self.points) > MAX_POINTS:  # thin out evenly: old points are as good for a power law as new ones
            self.points = self.points[::2]

    def _fit(self) -> tuple[Tensor, Tensor] | None:
        """Exponent a and reducible loss b n^-a at the last point, both (num_topics,); None with too few points."""
        if len(self.points) < SMALLEST_FIT:
            return None
        steps = torch.tensor([max(step, 1) for step, _ in self.points], dtype=torch.float64)
        table = [[float("nan") if x is None else x for x in row] for _, row in self.points]
        return fit_power_laws(steps, torch.tensor(table, dtype=torch.float64))


def fit_power_laws(n: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Fit L = e + b n^-a to each column by least squares, with 0.05 <= a <= 0.8, e >= 0 and b >= 0.

    Args:
        n: (num_points,) > 0.
        loss: (num_points, num_topics) float64; NaN where not measured.

    Returns:
        a and the reducible loss b n^-a at the last point, both (num_topics,); 0 for a topic with too few points.
    """
    known = torch.isfinite(loss)
    y = torch.where(known, loss, 0.0)
    count = known.sum(0).double()
    best_error = torch.full_like(count, torch.inf)
    exponent, reducible = torch.zeros_like(count), torch.zeros_like(count)
    for a in torch.linspace(0.05, 0.8, 76, dtype=torch.float64).tolist():
        x = (n / n[-1]) ** -a  # scaled, so that b x = b at the last point
        xk = x.unsqueeze(1) * known
        sx, sxx, sy, sxy = xk.sum(0), (xk * xk).sum(0), y.sum(0), (xk * y).sum(0)
        b = ((count * sxy - sx * sy) / (count * sxx - sx * sx).clamp_min(1e-300)).clamp_min(0)
        e = (sy - b * sx) / count.clamp_min(1)
        b = torch.where(e < 0, sxy / sxx.clamp_min(1e-300), b)  # the best fit through e = 0
        e = e.clamp_min(0)
        error = (((e + b * x.unsqueeze(1) - y) * known) ** 2).sum(0)
        better = (error < best_error) & (count >= SMALLEST_FIT)
        best_error = torch.where(better, error, best_error)
        exponent = torch.where(better, a, exponent)
        reducible = torch.where(better, b, reducible)
    return exponent, reducible
