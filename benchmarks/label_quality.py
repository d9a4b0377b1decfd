"""How often the offline mapper gives a topic the label that people expect.

    python benchmarks/label_quality.py --data FOLDER

FOLDER holds `bbc_news`, `ag_news` and `reuters21578` as .jsonl.zst with `text` and `label`. Two kinds of topics are
mapped: the known classes themselves (keywords of all their texts), and topics that were found without looking at the
labels (k-means on TF-IDF and SVD), whose expected label is that of the class that most of their texts have.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import zstandard
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from toremi_cli.topics.keywords import STOP_WORDS, class_tfidf, tokenize
from toremi_cli.topics.labelling import WordVectors, map_topics
from toremi_cli.topics.taxonomy import Taxonomy, load_taxonomy
from toremi_cli.topics.vectors import make_backend
from toremi_cli.topics.vectors.bags import Vocabulary

EXPECTED = {
    "bbc_news": {
        "business": "Business Economy",
        "entertainment": "Entertainment Culture Mass_media",
        "politics": "Politics Government",
        "sport": "Sports",
        "tech": "Technology Internet",
    },
    "ag_news": {
        "World": "Politics Military Government",
        "Sports": "Sports",
        "Business": "Business Economy",
        "Sci/Tech": "Technology Science Internet",
    },
    "reuters21578": {
        "earn": "Business",
        "acq": "Business",
        "money-fx": "Economy",
        "interest": "Economy",
        "money-supply": "Economy",
        "trade": "Economy Business",
        "crude": "Energy",
        "nat-gas": "Energy",
        "ship": "Business Economy Engineering",
        "grain": "Food_and_drink Economy",
        "sugar": "Food_and_drink Economy",
        "coffee": "Food_and_drink Economy",
        "cocoa": "Food_and_drink Economy",
        "gold": "Economy Business Nature",
        "cpi": "Economy",
        "gnp": "Economy",
        "jobs": "Economy",
        "bop": "Economy",
    },
}
"""Any of these labels is a hit. Written down before the first run."""
HUB_PRIOR = 0.61
"""Labels with a prior below this count as hubs."""
MIN_TEXTS = 40
FIT_TEXTS = 6000


@dataclass
class Scores:
    """Counts over topics."""

    topics: int = 0
    top1: int = 0
    top3: int = 0
    abstained: int = 0
    hub_first: int = 0

    def row(self) -> str:
        share = [f"{count}/{self.topics}" for count in (self.top1, self.top3, self.abstained, self.hub_first)]
        return " | ".join(share)


def read_set(path: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of the classes that have an expected label."""
    expected = EXPECTED[path.name.split(".")[0]]
    texts, labels = [], []
    with path.open("rb") as file:
        lines = io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), encoding="utf-8")
        for line in lines:
            row = json.loads(line)
            if row.get("label") in expected and len(row.get("topics") or [1]) == 1:
                texts.append(row["text"])
                labels.append(row["label"])
    return texts, labels


def keywords_of(documents: Sequence[list[str]], groups: np.ndarray, num_groups: int) -> list[list[str]]:
    """The 50 keywords of each group of documents; `groups` (num_documents,) holds their numbers."""
    vocabulary = Vocabulary.learn(documents, max_words=50_000, min_documents=5)
    joined: list[list[str]] = [[] for _ in range(num_groups)]
    for words, group in zip(documents, groups, strict=True):
        joined[group] += words
    return [[word for word, _ in topic] for topic in class_tfidf(vocabulary.count(joined), vocabulary.words, 50)]


def found_topics(texts: Sequence[str], num_topics: int, seed: int) -> np.ndarray:
    """(num_texts,) numbers of topics found without labels."""
    words = TfidfVectorizer(
        tokenizer=tokenize, token_pattern=None, stop_words=None, min_df=5, max_df=0.5, lowercase=False
    )
    rows = words.fit_transform(texts)
    keep = np.array([word not in STOP_WORDS for word in words.get_feature_names_out()])
    reduced = TruncatedSVD(100, random_state=seed).fit_transform(rows[:, keep])
    return KMeans(num_topics, n_init=3, random_state=seed).fit_predict(normalize(reduced))


def score(
    keywords: Sequence[list[str]], wanted: Sequence[str], taxonomy: Taxonomy, vectors: WordVectors | None
) -> tuple[Scores, list[tuple[str, ...]]]:
    """Map the topics and compare with `wanted`, the space-separated hits of each."""
    hubs = {label.name for label in load_taxonomy("wikipedia41").labels if label.prior < HUB_PRIOR}
    scores = Scores()
    mapped = map_topics(keywords, taxonomy, word_vectors=vectors)
    for topic, hits in zip(mapped, wanted, strict=True):
        scores.topics += 1
        scores.abstained += not topic.labels
        scores.top1 += bool(topic.labels) and topic.labels[0] in hits.split()
        scores.top3 += bool(set(topic.labels) & set(hits.split()))
        scores.hub_first += bool(topic.labels) and topic.labels[0] in hubs
    return scores, [topic.labels for topic in mapped]


def word_vectors(texts: Sequence[str], seed: int) -> WordVectors:
    """The words of doc2vec vectors learnt from the set, as `toremi annotate` has them."""
    backend = make_backend("doc2vec", seed=seed)
    order = np.random.default_rng([seed, 7]).permutation(len(texts))[:FIT_TEXTS]
    backend.fit([texts[i] for i in sorted(order)])
    table, index = backend.encode_words(), backend.vocabulary.index

    def look_up(words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        numbers = np.array([index.get(word, -1) for word in words], dtype=np.int64)
        return np.where((numbers >= 0)[:, None], table[np.maximum(numbers, 0)], 0.0), numbers >= 0

    return look_up


def measure(path: Path, arguments: argparse.Namespace) -> Iterator[str]:
    """Rows of the table for one set, and the labels of its classes."""
    name = path.name.split(".")[0]
    texts, labels = read_set(path)
    documents = [tokenize(text) for text in texts]
    counts = Counter(labels)
    classes = sorted(label for label in counts if counts[label] >= MIN_TEXTS)
    kept = [i for i, label in enumerate(labels) if label in set(classes)]
    groups = np.array([classes.index(labels[i]) for i in kept])
    kinds = [("known classes", keywords_of([documents[i] for i in kept], groups, len(classes)), classes)]
    found_words: list[list[str]] = []
    found_classes: list[str] = []
    for seed in range(arguments.seeds):
        found = found_topics(texts, arguments.num_topics, seed)
        found_words += keywords_of(documents, found, arguments.num_topics)
        for topic in range(arguments.num_topics):
            found_classes.append(Counter(labels[i] for i in np.flatnonzero(found == topic)).most_common(1)[0][0])
    kinds.append((f"found topics, {arguments.seeds} seeds", found_words, found_classes))
    taxonomy = load_taxonomy("wikipedia41")
    flat = replace(taxonomy, labels=tuple(replace(label, prior=1.0) for label in taxonomy.labels))
    vectors = word_vectors(texts, 0) if arguments.vectors else None
    for kind, keywords, of_class in kinds:
        wanted = [EXPECTED[name][label] for label in of_class]
        plain, _ = score(keywords, wanted, flat, None)
        words, chosen = score(keywords, wanted, taxonomy, None)
        yield f"| {name} | {kind} | words, no hub correction | {plain.row()} |"
        yield f"| {name} | {kind} | words | {words.row()} |"
        if vectors is not None:
            both, chosen = score(keywords, wanted, taxonomy, vectors)
            yield f"| {name} | {kind} | words and vectors | {both.row()} |"
        if kind == "known classes":
            for label, found_labels in zip(of_class, chosen, strict=True):
                yield f"# {name} | {label} | {', '.join(found_labels) or '(none)'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--num-topics", type=int, default=20, help="topics to find in each set")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-vectors", dest="vectors", action="store_false", help="leave out the vector view")
    arguments = parser.parse_args()
    lines = [line for name in EXPECTED for line in measure(arguments.data / f"{name}.jsonl.zst", arguments)]
    print(f"<!-- benchmarks/label_quality.py, {datetime.now(UTC):%Y-%m-%d} -->\n")
    print("| set | topics | mapper | top-1 | top-3 | abstained | a hub label first |\n|---|---|---|---|---|---|---|")
    print("\n".join(line for line in lines if line.startswith("|")))
    print("\n| set | class | labels given |\n|---|---|---|")
    print("\n".join("|" + line[1:] + " |" for line in lines if line.startswith("#")))


if __name__ == "__main__":
    main()
