"""Scores of documents, made up."""

import numpy as np

from toremi_cli.evaluate.bootstrap import DocumentScores


def make_scores(nats, num_bytes, sources=None):
    n = len(nats)
    sources = np.array(sources or ["a"] * n)
    ids = np.array([f"d{i:04d}" for i in range(n)])
    return DocumentScores(sources, ids, np.array(nats, float), np.array(num_bytes) // 4, np.array(num_bytes))


def random_scores(n, seed, shift=0.0):
    noise = np.random.default_rng(seed)
    num_bytes = np.random.default_rng(0).integers(100, 5000, n)
    rate = np.random.default_rng(1).normal(1.0, 0.2, n) + shift + noise.normal(0, 0.01, n)
    return make_scores(rate * num_bytes, num_bytes, ["a" if i % 3 else "b" for i in range(n)])
