"""Words: the one tokenizer of the topic side, and the keywords that tell a topic from the others."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_WORD_LENGTH = 40
"""Longer runs of letters are keys, hashes and paths, not words."""
NEARNESS_POWER, LEAST_NEARNESS = 4, 0.05
"""How much it matters that a word's vector is near to the topic's, and the cosine of words that are not at all."""
NAME_WORDS = 3
"""Words in a topic's name where no other topic has the same."""

_ASCII_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
# Python's \w knows no combining signs, without which Indic and South-East Asian words fall to pieces.
_SIGNS = "\u0300-\u036f\u0900-\u0963\u0966-\u0d7f\u0e01-\u0e3a\u0e40-\u0e4e\u0e80-\u0eff\u0f00-\u109f\u1780-\u17d3"
_WORD = re.compile(rf"(?:[^\W_]|[{_SIGNS}])+(?:'[^\W\d_]+)?")
# Scripts that put no spaces between words are cut into overlapping pairs of characters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
_DIGIT = re.compile(r"\d")


def tokenize(text: str) -> list[str]:
    """The words of `text`, lower case, in order.

    A word has at least two characters and more letters than digits ('mp3' is one; '2024' and '0x3f' are none). Runs of
    letters are parted at underscores and hyphens, a possessive 's is cut off, other contractions stay whole ("don't").
    Han, Kana, Thai, Lao, Burmese and Khmer runs give overlapping pairs of characters. Stop words are *not* removed:
    they stand in `STOP_WORDS`.
    """
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
        return [word for word in map(_trim, found) if word]
    text = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'")
    words: list[str] = []
    for found_word in _WORD.findall(text):
        if not found_word.isascii() and _UNSPACED.search(found_word):
            words += _pairs(found_word)
        elif word := _trim(found_word):
            words.append(word)
    return words


@lru_cache(maxsize=1 << 16)  # most words of a text are frequent ones
def _trim(word: str) -> str:
    """The word without its possessive ending; empty if it is none."""
    if word.endswith("'s"):
        word = word[:-2]
    length = len(word)
    if not 2 <= length <= MAX_WORD_LENGTH:
        return ""
    if word.isalpha():
        return word
    return word if 2 * len(_DIGIT.findall(word)) < length else ""


def _pairs(run: str) -> list[str]:
    """Character pairs of the unspaced parts of `run`, and its other parts as they are."""
    words = []
    position = 0
    for match in _UNSPACED.finditer(run):
        words.append(_trim(run[position : match.start()]))
        part = match.group()
        words += [part[i : i + 2] for i in range(len(part) - 1)] or [part]
        position = match.end()
    words.append(_trim(run[position:]))
    return [word for word in words if word]


def class_tfidf(
    counts: csr_matrix,
    vocabulary: Sequence[str],
    top: int,
    stop_words: Collection[str] | None = None,
    vectors: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[list[tuple[str, float]]]:
    """The `top` keywords of each topic with their weights, strongest first, by class-based TF-IDF.

    A topic's samples count as one document: the weight of word x in topic c is tf(x, c) * log(1 + A / f(x)), with tf
    the word's share of the topic's words, f its count in all topics and A the mean number of words a topic.
    Source: Grootendorst, "BERTopic" (arXiv 2203.05794), section 3.3.

    Args:
        counts: (num_topics, num_words) how often each word stands in each topic.
        vocabulary: the words, one for each column.
        top: how many to return at most; words of weight 0 never are.
        stop_words: words that are no keywords; `STOP_WORDS` if None.
        vectors: of the topics (num_topics, dim) and of the words (num_words, dim), of length 1; the weight is then
            multiplied by their cosine to the power of `NEARNESS_POWER`.
    """
    stop_words = STOP_WORDS if stop_words is None else stop_words
    counts = counts.tocsr().astype(np.float64)
    words_per_topic = np.asarray(counts.sum(axis=1)).ravel()  # (num_topics,)
    count_of_word = np.asarray(counts.sum(axis=0)).ravel()  # (num_words,)
    keep = np.array([word not in stop_words for word in vocabulary], dtype=bool)
    inverse = np.log1p(words_per_topic.mean() / np.maximum(count_of_word, 1e-12)) * keep
    keywords = []
    for topic in range(counts.shape[0]):
        row = slice(counts.indptr[topic], counts.indptr[topic + 1])
        columns = counts.indices[row]
        weights = counts.data[row] / max(words_per_topic[topic], 1e-12) * inverse[columns]
        if vectors is not None:
            cosine = np.einsum("wd,d->w", vectors[1][columns], vectors[0][topic], optimize=False)
            weights = weights * np.maximum(cosine, LEAST_NEARNESS) ** NEARNESS_POWER
        # Ties go by the word, so that the order of the columns does not matter.
        ranked = sorted(zip(weights, columns, strict=True), key=lambda pair: (-pair[0], vocabulary[pair[1]]))
        keywords.append([(vocabulary[column], float(weight)) for weight, column in ranked[:top] if weight > 0])
    return keywords


def new_topic_name(words: Sequence[str], taken: Collection[str], kind: str = "") -> str:
    """A short name made of the first words, different from all in `taken` (which is left as it is).

    Inflections of a word that is in the name already are passed over: 'film-actor-award', not 'film-films-actor'. A
    topic that was cut from another for its `kind` of text says so: 'film-actor-award~repeated-lines'.
    """
    ending = "~" + "-".join(tokenize(kind)) if kind else ""
    words = [word for word in words if word not in NOT_IN_NAMES] or words
    parts: list[str] = []
    for word in words:
        if not any(_same_stem(word, part) for part in parts):
            parts.append(word)
        if len(parts) >= NAME_WORDS and "-".join(parts) + ending not in taken:
            return "-".join(parts) + ending
    base = ("-".join(parts[:NAME_WORDS]) + ending).removeprefix("~") or "topic"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name


def _same_stem(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    if long.startswith(short) and len(short) >= 3 and len(long) - len(short) <= 3:
        return True
    return len(short) >= 5 and short[-1] == "y" and long == short[:-1] + "ies"


_STOP_WORDS_TEXT = """
a about above across after afterwards again against ago ah all almost alone along already also although always am
amid among amongst an and another any anybody anyhow anyone anything anyway anywhere are around as aside at away
back be became because become becomes becoming been before beforehand behind being below beside besides between
beyond both but by came can cannot come comes coming could course despite did different do does doing done down
during each eg eight eighteen eighty either eleven else elsewhere enough especially et etc even ever every
everybody everyone everything everywhere except far few fewer fifteen fifth fifty first five for former formerly
forty four fourteen fourth from further furthermore gave get gets getting give given gives giving go goes going
gone good got had half has have having he hence her here hereafter hereby herein hereupon hers herself him himself
his how however hundred hundreds ie if in inc indeed instead into is it its itself just keep keeps kept knew know
known knows large last late later latter least less lest let lets like likely little long look looked looking looks
lot lots ltd made mainly make makes making many may maybe me meanwhile merely might million millions more
moreover most mostly mr mrs ms much must my myself namely near nearly need needs neither never nevertheless new
next nine nineteen ninety ninth no nobody none nonetheless noone nor not nothing now nowhere of off often oh ok
okay old on once one ones only onto or other others otherwise ought our ours ourselves out over own part per
perhaps please put puts quite rather re really regarding same saw say saying says said second see seem seemed
seeming seems seen seven seventeen seventy several shall she should show showed shown shows simply since six
sixteen sixty small so some somebody somehow someone something sometime sometimes somewhat somewhere soon still
such sure take taken takes taking tell tells ten than that the their theirs them themselves then thence there
thereafter thereby therefore therein thereupon these they thing things think third thirteen thirty this those
though thought thousand thousands three through throughout thru thus till to together told too took toward towards
tried tries try trying twelve twenty twice two un under unless unlike until up upon us use used uses using usually
various very via vs want wanted wants was way ways we well went were what whatever when whence whenever where
whereafter whereas whereby wherein whereupon wherever whether which while whither who whoever whole whom whose why
will with within without would yes yet you your yours yourself yourselves
ain aren arent can't cant couldn couldnt didn didnt doesn doesnt don dont hadn hadnt hasn hasnt haven havent isn
isnt ll mightn mustn needn shan shouldn shouldnt ve wasn wasnt weren werent won wont wouldn wouldnt
ain't aren't couldn't didn't doesn't don't hadn't hasn't haven't isn't mustn't needn't shan't shouldn't wasn't
weren't won't wouldn't could've might've must've should've would've i'd i'll i'm i've he'd he'll she'd she'll it'd
it'll that'd that'll there'd there'll they'd they'll they're they've we'd we'll we're we've who'd who'll who're
who've you'd you'll you're you've y'all o'clock
amp apos aspx br cdata cellpadding cellspacing colspan css div em gt hellip href hr htm html http https img jpg
laquo ldquo li lsquo lt mailto mdash nbsp ndash png px quot raquo rdquo rowspan rsquo span src svg td tr ul url
utf www xhtml xml xmlns
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())
"""English words, contractions and remains of mark-up that say nothing about a topic."""

_NOT_IN_NAMES_TEXT = """
ab aber als am auch auf aus bei bis da das dass dem den der des diese du durch ein eine einem einen einer er
es für ich ihr im in ist ja kann nach nicht noch nur oder sein sich sie sind so und uns vom von vor was wenn
wie wir wird zu zum zur
au aux avec ce ces cette comme dans de des du elle en est et ils je la le les leur mais
même nous ont ou où par pas pour qu que
qui sa sans se ses sont sur une un vous
al che chi ci con da dei del della delle di gli il io lo ma nel nella non per più quando questo se si sono suo sua una
ante aunque cada como cual cuando desde donde el ella ellos entre esta este fue hay las los más muy pero porque
sin sobre su sus también todo tiene uno unos ya yo
ao aos às até com da das dos e ela ele em essa esse foi isso mas mesmo na nas não no nos num os ou pela pelo por quem
seu sua são também tem uma você
aan bij dan dat deze dit een en haar heb heeft het hij hoe ik je kan maar meer met mijn naar niet nog om ook op
te toch tot uit van voor waar wat werd wij worden zich zij zijn zo
av den det dette eller ett från för har hos hun inte jag jeg kan med mellan men mot må när och og om på skal som til
till vara var ved är
afp courtesy getty jpeg jpg png shutterstock thumb thumbnail wikimedia
"""
NOT_IN_NAMES = frozenset(_NOT_IN_NAMES_TEXT.split())
"""Frequent words of German, French, Italian, Spanish, Portuguese, Dutch and the Scandinavian languages, and credits of
images: a topic is not named after them while it has other words. They stay keywords, since to some topics they matter.
"""
