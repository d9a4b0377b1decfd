"""Controls by size alone: what any clever policy has to beat.

    stratified    every topic has the same share of what is trained on
    temperature   shares proportional to size^(1/T): T = 1 natural, T = infinity stratified

T = 10/3 is the exponent 0.3 of multilingual pre-training (XLM-R, arXiv 1911.02116; mT5, arXiv 2010.11934); the study
Aioli (arXiv 2411.05735) found no online method that consistently beats stratified sampling.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from toremi_cli.reweight.policies.data import tempered_shares, weights_of_shares
from toremi_cli.reweight.policies.uniform import Uniform


class Stratified(Uniform):
    """Equal shares."""

    name: ClassVar[str] = "stratified"
    acts_on: ClassVar[str] = "sampling"
    needs: ClassVar[frozenset[str]] = frozenset({"sizes"})

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.weights = weights_of_shares(tempered_shares(self.natural, self._temperature()), self.natural)

    def _temperature(self) -> float:
        return math.inf


class Temperature(Stratified):
    """Shares between natural and equal."""

    name: ClassVar[str] = "temperature"

    def _temperature(self) -> float:
        return self.config.temperature
