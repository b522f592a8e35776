"""Which documents are read how often, in which windows: an endless, seeded stream of batches."""

import json
import random
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from . import augment, corpora
from .corpora import Document
from .windows import Sample, cut, merge

#: Tokens of a window, special tokens not counted, and how often: most are as serving cuts them, some a whole model window.
LENGTHS = ((62, 0.15), (126, 0.6), (190, 0.1), (254, 0.1), (510, 0.05))

TRUST = {5: 1.0, 4: 1.0, 3: 0.7, 2: 0.4, None: 1.0}

Config = dict[str, Any]
"""What a file of training/configs says."""


def read_config(path: Path) -> Config:
    """A configuration; one that is `like` another changes some of its values."""
    config = tomllib.loads(path.read_text("utf-8"))
    if "like" not in config:
        return config
    other = read_config(path.parent / config.pop("like"))
    for key, value in config.items():
        other[key] = other[key] | value if isinstance(value, dict) and key in other else value
    return other


@dataclass
class Source:
    """A set of documents and how many times each is read in a pass."""

    name: str
    documents: list[Document]
    passes: float


@dataclass
class Corpus:
    """What is trained on and what is held out, by task."""

    entities: list[Source] = field(default_factory=list)
    topics: list[Source] = field(default_factory=list)
    articles: list[Source] = field(default_factory=list)
    held_out: list[Document] = field(default_factory=list)
    dev: dict[str, list[Document]] = field(default_factory=dict)


def load(config: Config, data: Path) -> Corpus:
    """Reads every set that the configuration's tiers allow, without the texts of test and dev files."""
    entries = json.loads((data / "datasets.json").read_text("utf-8"))
    banned = corpora.forbidden(data, entries)
    passes, added = config["passes"], config["added_topics"]
    corpus = Corpus()
    for entry in entries:
        if entry["licence_tier"] not in config["tiers"] or entry["split"] not in ("train", "all"):
            continue
        task = entry["task"]
        times = passes.get(name_of(entry), passes.get(entry["name"], passes[task]))
        if times <= 0:
            continue
        path = data / entry["file"]
        if task == "articles":
            add_articles(corpus, path, times, added, banned)
            continue
        read = corpora.ner_documents if task == "ner" else corpora.topic_documents
        documents = [d for d in read(path, entry, added) if corpora.fingerprint(d.fields[0][0]) not in banned]
        for document in documents:
            document.weight = TRUST[entry.get("trust")] * config["weights"].get(entry["name"], 1.0)
        if name_of(entry) in config["dev_from_train"]:
            kept = int(len(documents) * (1 - config["dev_from_train"][name_of(entry)]))
            corpus.dev[name_of(entry)] = documents[kept:]
            documents = documents[:kept]
        into = corpus.entities if task == "ner" else corpus.topics
        into.append(Source(name_of(entry), documents, times))
    for entry in entries:
        if entry["task"] == "ner" and entry["split"] == "dev" and name_of(entry) in config["dev"]:
            corpus.dev[name_of(entry)] = list(corpora.ner_documents(data / entry["file"], entry, added))
    for path in map(Path, config.get("articles", [])):
        times = config.get("article_passes", {}).get(path.name.partition(".")[0], passes["articles"])
        add_articles(corpus, path, times, added, banned)
    return corpus


def name_of(entry: corpora.Object) -> str:
    """A set and its language."""
    return f"{entry['name']}.{entry['lang']}"


def add_articles(corpus: Corpus, path: Path, times: float, added: Sequence[str], banned: set[str]) -> None:
    """Articles go to training but for the sixth that is held out."""
    articles = corpora.articles(path, added)
    documents = [d for d in articles if not any(corpora.fingerprint(text) in banned for text, _ in d.fields if text)]
    corpus.held_out += [d for d in documents if corpora.held_out(d.source)]
    corpus.articles.append(Source(path.stem, [d for d in documents if not corpora.held_out(d.source)], times))


class Stream:
    """Batches of samples, each of about `budget` padded tokens."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer, config: Config, seed: int) -> None:
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.config = config
        self.rng = random.Random(seed)
        documents = [d for source in corpus.entities + corpus.articles for d in source.documents]
        self.names = augment.NamePool(documents)

    def capacity(self) -> int:
        """The longest window of the next sample, without special tokens."""
        lengths, weights = zip(*LENGTHS)
        return int(self.rng.choices(lengths, weights)[0])

    def altered(self, document: Document) -> Document:
        """The document, perhaps with other names or in another case."""
        if document.has_entities and self.rng.random() < self.config["swap"]:
            document = self.names.swap(document, self.rng)
        if self.rng.random() < self.config["recase"]:
            document = augment.recase(document, self.rng)
        return document

    def sample(self, document: Document, capacity: int, most: int) -> Sample | None:
        """A document cut into windows, of which at most `most` neighbouring ones are kept."""
        windows = cut(self.tokenizer, document, capacity, self.rng)
        if not windows:
            return None
        if len(windows) > most:
            # Mostly the beginning, where news says what it is about.
            start = 0 if self.rng.random() < 0.7 else self.rng.randrange(len(windows) - most + 1)
            windows = windows[start : start + most]
        return Sample(windows, document.topics, document.has_misc, document.weight)

    def sentences(self) -> Iterator[Sample]:
        """One pass over the entity sets: runs of neighbouring sentences that fill windows of many lengths."""
        runs: list[list[Document]] = []
        for source in self.corpus.entities:
            for _ in range(self.times(source)):
                at = 0
                documents = source.documents
                while at < len(documents):
                    capacity = self.capacity()
                    # Alone, as in a headline or a test file, or as many as about fill a window.
                    alone = self.rng.random() < 0.3
                    run = [documents[at]]
                    size = weight_of(documents[at])
                    at += 1
                    while not alone and at < len(documents):
                        size += weight_of(documents[at])
                        if size > capacity or documents[at].row != documents[at - 1].row + 1:
                            break
                        run.append(documents[at])
                        at += 1
                    runs.append(run)
        self.rng.shuffle(runs)
        for run in runs:
            sample = self.sample(self.altered(merge(run)), 510, 1)
            if sample:
                yield sample

    def times(self, source: Source) -> int:
        """A fractional number of passes is a whole one, sometimes one more."""
        return int(source.passes) + (self.rng.random() < source.passes % 1)

    def texts(self) -> Iterator[Sample]:
        """One pass over topic sets and articles."""
        chosen: list[tuple[Document, bool]] = []
        for source in self.corpus.topics:
            for _ in range(self.times(source)):
                chosen += [(document, False) for document in source.documents]
        for source in self.corpus.articles:
            for _ in range(self.times(source)):
                chosen += [(document, True) for document in source.documents]
        self.rng.shuffle(chosen)
        for document, article in chosen:
            document = self.altered(document)
            if article:
                part = self.rng.random()
                if part < 0.12:
                    document = augment.replaced(document, document.fields[:1])
                elif part < 0.3:
                    document = augment.replaced(document, document.fields[1:])
            sample = self.sample(document, self.capacity(), 6 if article else self.config["topic_windows"])
            if sample:
                yield sample

    def batches(self, samples: Iterator[Sample], budget: int, pool: int = 48) -> Iterator[list[Sample]]:
        """Samples of like length together, so that little is padded."""
        waiting: list[Sample] = []
        total = 0
        for sample in samples:
            waiting.append(sample)
            total += sum(len(window.ids) for window in sample.windows)
            if total >= budget * pool:
                yield from self.cut_batches(waiting, budget)
                waiting, total = [], 0
        yield from self.cut_batches(waiting, budget)

    def cut_batches(self, samples: list[Sample], budget: int) -> list[list[Sample]]:
        """Batches of a pool in random order."""
        samples.sort(key=lambda sample: (max(len(window.ids) for window in sample.windows), self.rng.random()))
        batches: list[list[Sample]] = []
        batch: list[Sample] = []
        rows = 0
        for sample in samples:
            longest = max(len(window.ids) for window in sample.windows)
            if batch and (rows + len(sample.windows)) * longest > budget:
                batches.append(batch)
                batch, rows = [], 0
            batch.append(sample)
            rows += len(sample.windows)
        if batch:
            batches.append(batch)
        self.rng.shuffle(batches)
        return batches


def weight_of(document: Document) -> int:
    """About how many tokens a sentence has, without encoding it."""
    text = document.fields[0][0]
    return len(text) // (2 if document.lang in ("zh", "ja", "ko") else 4) + 1
