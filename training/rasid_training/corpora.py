"""Labelled texts: what `datasets.json` lists, authored articles and a user's own, as documents with names and topics."""

import gzip
import hashlib
import json
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .detokenize import natural
from .labels import ENTITY_TYPES, TAGS, TOPICS, related

#: Sets whose MISC is another notion than CoNLL's, so that nothing is learnt from it.
OTHER_MISC = {"wnut17", "re3d_names"}
#: Sets whose rows name all of their topics, beside those that `datasets.json` says so of.
MULTI_LABEL = {"multilabel_silver"}

Entity = tuple[int, int, int]
"""First character, first character after, type."""
Field = tuple[str, list[Entity]]
Object = dict[str, Any]


@dataclass
class Document:
    """A text with what is known of it."""

    lang: str
    fields: list[Field]
    """Title (perhaps) and text, each with its entities."""
    has_entities: bool = False
    has_misc: bool = True
    topics: list[int] = field(default_factory=lambda: [-1] * len(TOPICS))
    """By topic: 1, 0, or -1 for unknown."""
    source: str = ""
    row: int = 0
    weight: float = 1.0


def lines(path: Path) -> Iterator[Object]:
    """Objects of a JSON Lines file, packed or not."""
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield json.loads(line)


def entities_of(tags: list[str], spans: list[tuple[int, int]]) -> list[Entity]:
    """Entities of a BIO2 sequence as character ranges; as in `rasid eval`, an "I-" that goes on from nothing is none."""
    found: list[Entity] = []
    before = "O"
    for tag, (start, end) in zip(tags, spans, strict=True):
        if tag[0] == "B":
            found.append((start, end, ENTITY_TYPES.index(tag[2:])))
        elif tag[0] == "I" and before[2:] == tag[2:]:
            found[-1] = (found[-1][0], end, found[-1][2])
        else:
            tag = "O"
        before = tag
    return found


def added_targets(topics: list[str], covered: Collection[str], added: Sequence[str]) -> list[int]:
    """What a row says of topics that a user added to the seventeen: unknown unless its set covers them."""
    return [int(topic in topics) if topic in covered else -1 for topic in added]


def ner_documents(path: Path, entry: Object, added: Sequence[str] = ()) -> Iterator[Document]:
    """Sentences of an entity set in natural spacing."""
    misc = "MISC" in entry["annotated_types"] and entry["name"] not in OTHER_MISC
    for row, item in enumerate(lines(path)):
        check(item["tags"], TAGS, path, row)
        text, spans = natural(item["tokens"], item["lang"], item.get("space_after"), entry["join"])
        entities = [e for e in entities_of(item["tags"], spans) if misc or e[2] != 3]
        targets = [-1] * (len(TOPICS) + len(added))
        yield Document(item["lang"], [(text, entities)], True, misc, targets, source=entry["name"], row=row)


def single_label_targets(topics: list[str]) -> list[int]:
    """What a row of a single-label set says of each topic: of one that may go with its label, nothing."""
    near = set().union(*(related(topic) for topic in topics))
    return [1 if topic in topics else -1 if topic in near else 0 for topic in TOPICS]


def check(names: Iterable[str], known: Iterable[str], path: Path, row: int) -> None:
    """Refuses labels that the network has not."""
    if wrong := set(names) - set(known):
        raise ValueError(f"{path}, row {row + 1}: {', '.join(sorted(wrong))}: must be of {', '.join(known)}")


def topic_documents(path: Path, entry: Object, added: Sequence[str] = ()) -> Iterator[Document]:
    """Texts of a topic set. Where rows have one label each, those without are left out: what they are about is unknown."""
    for row, item in enumerate(lines(path)):
        topics = item["topics"]
        check(topics, (*TOPICS, *added), path, row)
        if entry.get("multi_label", entry["name"] in MULTI_LABEL):
            targets = [int(topic in topics) for topic in TOPICS]
        elif topics:
            targets = single_label_targets(topics)
        else:
            continue
        targets += added_targets(topics, entry["covered_topics"], added)
        text = item["text"].lower() if entry["name"] == "muc4" else item["text"]
        yield Document(item["lang"], [(text, [])], topics=targets, source=entry["name"], row=row)


def articles(path: Path, added: Sequence[str] = ()) -> Iterator[Document]:
    """Annotated articles: every name is known, and every topic, an added one if the file has it at all."""
    items = list(lines(path))
    covered = topics_of(items)
    for row, item in enumerate(items):
        check(item["topics"], (*TOPICS, *added), path, row)
        check((e["type"] for e in item["entities"]), ENTITY_TYPES, path, row)
        fields = []
        for name in ("title", "text"):
            own = [(e["start"], e["end"], ENTITY_TYPES.index(e["type"])) for e in item["entities"] if e["field"] == name]
            fields.append((item[name], sorted(own)))
        targets = [int(topic in item["topics"]) for topic in TOPICS] + added_targets(item["topics"], covered, added)
        yield Document(item["lang"], fields, True, True, targets, source=item["id"], row=row)


def topics_of(articles: Iterable[Object]) -> set[str]:
    """Topics that occur."""
    return {topic for article in articles for topic in article["topics"]}


def held_out(identifier: str) -> bool:
    """Whether an article is one of the sixth that is never trained on."""
    return int(hashlib.sha256(identifier.encode()).hexdigest(), 16) % 6 == 0


def fingerprint(text: str) -> str:
    """Equal for texts that differ in spacing, case and punctuation only."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return hashlib.sha256("".join(c for c in folded if c.isalnum()).encode()).hexdigest()


def forbidden(folder: Path, entries: list[Object]) -> set[str]:
    """Fingerprints of every text of a test or dev file, over all languages."""
    prints = set()
    for entry in entries:
        if entry["split"] in ("train", "all"):
            continue
        for item in lines(folder / entry["file"]):
            prints.add(fingerprint(item["text"] if "text" in item else "".join(item["tokens"])))
    return prints
