"""Labels chosen by a language model behind any OpenAI-compatible server (vLLM, llama.cpp, Ollama, …).

What a server answers is checked here, whatever it promises. A topic that the server cannot label, after bounded
retries and one repair prompt, comes back as None, for the caller to label offline. Answers are kept on disk one by
one, so that a rerun pays only for what is missing. The task is the reference's (arXiv 2504.00695, appendix on topic
annotation): the first 50 keywords of a cluster in, 1 to 3 labels of the list out.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from toremi_cli import console
from toremi_cli.errors import ToremiError, reason
from toremi_cli.provenance import digest
from toremi_cli.topics.config import LlmConfig
from toremi_cli.topics.labelling import NUM_KEYWORDS, TopicLabels
from toremi_cli.topics.llm_options import LIMITS, KnownOptions, Negotiation
from toremi_cli.topics.llm_prompt import PROMPT_VERSION, answer_schema, prompt, read_answer, read_reply
from toremi_cli.topics.taxonomy import Taxonomy

KEY_VARIABLES = ("TOREMI_LLM_KEY", "OPENAI_API_KEY")
GIVE_UP_AFTER = 3
"""Topics in a row without an answer after which the server counts as gone."""
MOST_TOKENS = 2000
"""Of an answer, thoughts among them."""
MORE_TOKENS = 4
"""How many times as many a model gets whose thoughts took them all; once."""
CHARACTERS_PER_TOKEN = 4
"""Rule of thumb for English, to say beforehand what a run will cost."""
ANSWER_TOKENS = 40


@dataclass(frozen=True)
class LlmCost:
    """What labelling will take at most, repair prompts and retries aside."""

    num_topics: int
    num_cached: int
    num_calls: int
    prompt_tokens: int
    completion_tokens: int


class AnswerCache:
    """Answers on disk: one JSON object a line, appended as they come; a line cut short by a crash is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._labels: dict[str, list[str]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    entry = json.loads(line)
                    self._labels[entry["key"]] = list(entry["labels"])
                except (ValueError, KeyError, TypeError):
                    continue

    def get(self, key: str) -> list[str] | None:
        """The labels under `key`, None if there are none yet."""
        return self._labels.get(key)

    def put(self, key: str, labels: Sequence[str], **facts: Any) -> None:
        """Keep an answer at once, so that no crash loses it."""
        with self._lock:
            self._labels[key] = list(labels)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # A leading line break parts this entry from one that a crash cut short.
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + json.dumps({"key": key, "labels": list(labels), **facts}, ensure_ascii=False))


def estimate_cost(
    keywords: Sequence[Sequence[str]], taxonomy: Taxonomy, config: LlmConfig, max_labels: int, cache: AnswerCache
) -> LlmCost:
    """What `label_with_llm` would ask for now; no request is made."""
    missing = [words for words in keywords if words and cache.get(_key(words, taxonomy, config, max_labels)) is None]
    prompts = (prompt(words, taxonomy, config.seed, max_labels) for words in missing)
    characters = sum(len(message["content"]) for messages in prompts for message in messages)
    cached = sum(bool(words) for words in keywords) - len(missing)
    return LlmCost(
        len(keywords), cached, len(missing), characters // CHARACTERS_PER_TOKEN, len(missing) * ANSWER_TOKENS
    )


def label_with_llm(
    keywords: Sequence[Sequence[str]], taxonomy: Taxonomy, config: LlmConfig, max_labels: int, cache: AnswerCache
) -> list[TopicLabels | None]:
    """Ask the server for each topic's labels; None where it gave no usable answer.

    Raises:
        ToremiError: the server refuses the key or does not know the model or the address, or not one of its answers
            can be used.
    """
    todo = [topic for topic, words in enumerate(keywords) if words]
    answers: list[TopicLabels | None] = [None] * len(keywords)
    asker = _Asker(taxonomy, config, max_labels, cache)
    with console.progress(f"labels by {config.model}", len(todo), "topics") as progress:
        for topic, labels in _ask_all(asker, keywords, todo, config.concurrency):
            if labels is not None:
                answers[topic] = TopicLabels(tuple(labels), (), f"llm:{config.model}")
            progress.advance()
    if todo and not any(answers):
        raise ToremiError(
            f"{config.url}: no usable answer for any of {len(todo):,} topics ({asker.last_problem}); check --llm-url "
            "and --llm-model, or leave the labels to the lexicons with --llm-url none"
        )
    if asker.gone.is_set():
        console.warn(
            f"{config.url}: no answer any more ({asker.last_problem}); run again to ask for what is missing",
            even_quiet=True,
        )
    return answers


def _ask_all(
    asker: _Asker, keywords: Sequence[Sequence[str]], todo: Sequence[int], concurrency: int
) -> Iterator[tuple[int, list[str] | None]]:
    """Topics with their answers, as they come. An interrupt does not wait for answers that are under way."""
    waiting: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[tuple[int, list[str] | None, Exception | None]] = SimpleQueue()
    for topic in todo:
        waiting.put(topic)

    def work() -> None:
        with suppress(Empty):
            while not asker.stopped.is_set():
                topic = waiting.get_nowait()
                try:
                    done.put((topic, asker.ask(keywords[topic]), None))
                except Exception as problem:
                    asker.stopped.set()
                    done.put((topic, None, problem))

    for _ in range(min(concurrency, len(todo))):
        # A pool's threads are joined when the process ends, daemons are not.
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in todo:
            topic, labels, problem = done.get()
            if problem is not None:
                raise problem
            yield topic, labels
    finally:
        asker.stopped.set()


class _Asker:
    """Puts topics to the server; used by several threads at once."""

    def __init__(self, taxonomy: Taxonomy, config: LlmConfig, max_labels: int, cache: AnswerCache) -> None:
        self.client = _client(config)
        self.taxonomy, self.config, self.max_labels, self.cache = taxonomy, config, max_labels, cache
        schema = answer_schema(taxonomy, max_labels)
        form = {"type": "json_schema", "json_schema": {"name": "labels", "strict": True, "schema": schema}}
        options = {"response_format": form, "seed": config.seed, "temperature": 0.0, "max_tokens": MOST_TOKENS}
        self.options = KnownOptions(options)
        self.gone = threading.Event()
        self.stopped = threading.Event()
        self.last_problem = ""
        self._failed_in_a_row = 0

    def ask(self, words: Sequence[str]) -> list[str] | None:
        """The labels of one topic: from the cache, or from at most two exchanges with the server."""
        key = _key(words, self.taxonomy, self.config, self.max_labels)
        labels = self.cache.get(key)
        if labels is not None or self.gone.is_set():
            return labels
        messages = prompt(words, self.taxonomy, self.config.seed, self.max_labels)
        labels, said = [], ""
        for _ in range(2):
            answer = self._complete(messages)
            if answer is None:
                return None
            said = " ".join(answer.split())[:60]
            labels, complaint = read_answer(answer, self.taxonomy, self.max_labels)
            if not complaint:
                break
            repair = (
                f"{complaint} Answer again, with JSON only, and with labels of the list, written as they are there."
            )
            messages = [*messages, {"role": "assistant", "content": answer}, {"role": "user", "content": repair}]
        if not labels:
            self.last_problem = f"'{said}': {complaint}"
            console.note(f"{self.config.model}: no usable labels for '{', '.join(words[:3])}': {complaint}")
            return None
        self.cache.put(key, labels, model=self.config.model, taxonomy=self.taxonomy.name, words=list(words[:5]))
        return labels

    def _complete(self, messages: list[dict[str, str]]) -> str | None:
        """The server's text, None after the last try; empty if it sent nothing."""
        import openai

        if self.gone.is_set() or self.stopped.is_set():
            return None
        try:
            text = self._request(messages)
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as problem:
            raise ToremiError(_refusal(problem, self.config)) from None
        except (openai.OpenAIError, ValueError, TypeError, AttributeError) as problem:
            self.last_problem = reason(problem, 120)
        else:
            self._failed_in_a_row = 0
            return text
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= GIVE_UP_AFTER:
            self.gone.set()
        return None

    def _request(self, messages: list[dict[str, str]]) -> str:
        """One answer; where the server refuses an option, without that, and where thoughts fill it, a longer one."""
        import openai

        negotiation = Negotiation(self.options.current())
        longer = False
        while True:
            options = dict(negotiation.options)
            limit = next((name for name in LIMITS if name in options), None)
            if longer and limit:
                options[limit] *= MORE_TOKENS
            try:
                reply = self.client.chat.completions.create(model=self.config.model, messages=messages, **options)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as problem:
                if not negotiation.refused(str(problem)):
                    raise
                continue
            text, is_cut = read_reply(reply)
            self.options.learn(options)
            if not is_cut or longer or not limit:
                return text
            longer = True


def _key(words: Sequence[str], taxonomy: Taxonomy, config: LlmConfig, max_labels: int) -> str:
    names = digest(taxonomy.name, taxonomy.version, taxonomy.label_names)
    return digest(config.model, PROMPT_VERSION, names, max_labels, list(words[:NUM_KEYWORDS]))


def _client(config: LlmConfig) -> Any:
    config.check_client()
    import openai

    # Servers on one's own machine want no key, but the client wants one.
    key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "none")
    retries = config.attempts - 1  # of a busy or silent server, after the wait that it asks for
    return openai.OpenAI(base_url=config.url, api_key=key, max_retries=retries, timeout=config.timeout_seconds)


def _refusal(problem: Any, config: LlmConfig) -> str:
    return (
        f"{config.url}: the server refuses model '{config.model}' (HTTP {problem.status_code}: {reason(problem)}); "
        f"check --llm-url, --llm-model and the key in {' or '.join(KEY_VARIABLES)}"
    )
