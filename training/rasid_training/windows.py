"""Documents as the model reads them: windows of tokens with a tag at the first token of each word."""

import random
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from .corpora import Document, Entity
from .text import sentences, words

IGNORE = -100
PAD = 1
"""What fills up rows; it is masked, so any token would do."""


@dataclass
class Window:
    """Token ids with both special tokens, and a tag (or IGNORE) for each."""

    ids: list[int]
    tags: list[int]


@dataclass
class Sample:
    """A document's windows; the topics are decided over all of them, as in serving."""

    windows: list[Window]
    topics: list[int]
    has_misc: bool
    weight: float


def word_tags(text: str, entities: list[Entity]) -> list[tuple[int, int, int]]:
    """Words as (first character, first after, tag), cut where an entity begins or ends inside one."""
    borders = sorted({border for start, end, _ in entities for border in (start, end)})
    found: list[tuple[int, int, int]] = []
    at = 0
    entity = 0
    for start, end in words(text):
        while at < len(borders) and borders[at] <= start:
            at += 1
        cuts = [start]
        look = at
        while look < len(borders) and borders[look] < end:
            cuts.append(borders[look])
            look += 1
        for left, right in zip(cuts, [*cuts[1:], end]):
            while entity < len(entities) and entities[entity][1] <= left:
                entity += 1
            tag = 0
            if entity < len(entities) and entities[entity][0] <= left:
                kind = entities[entity][2]
                # Words before this one that belong to the entity, if any, make it an inside tag.
                inside = bool(found) and found[-1][2] != 0 and found[-1][0] >= entities[entity][0]
                tag = 2 * kind + (2 if inside else 1)
            found.append((left, right, tag))
    return found


def tokenize(tokenizer: Tokenizer, text: str, entities: list[Entity]) -> tuple[list[int], list[int], list[int]]:
    """Ids, tags and the character after which each token ends."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    offsets = encoding.offsets
    tags = [IGNORE] * len(offsets)
    token = 0
    for start, end, tag in word_tags(text, entities):
        while token < len(offsets) and (offsets[token][1] <= start or blank(text, offsets[token])):
            token += 1
        if token == len(offsets):
            break
        # Characters that share a token are spoken for by the first.
        if offsets[token][0] < end and tags[token] == IGNORE:
            tags[token] = tag
    return encoding.ids, tags, [end for _, end in offsets]


def blank(text: str, offset: tuple[int, int]) -> bool:
    """Whether a token carries no character: a lone word separator."""
    return not text[offset[0] : offset[1]].strip()


def cut(tokenizer: Tokenizer, document: Document, capacity: int, rng: random.Random | None) -> list[Window]:
    """Windows of at most `capacity` tokens that begin and end at sentence boundaries; a longer sentence is cut anywhere.

    With `rng`, one document in eight begins in mid-sentence.
    """
    first, last = frame(tokenizer)
    ids: list[int] = []
    tags: list[int] = []
    ends: list[int] = []
    for text, entities in document.fields:
        for line_start, line_end in lines_of(text):
            line = text[line_start:line_end]
            own = [(s - line_start, e - line_start, k) for s, e, k in entities if line_start <= s and e <= line_end]
            line_ids, line_tags, token_ends = tokenize(tokenizer, line, own)
            token = 0
            for _, sentence_end in sentences(line):
                while token < len(token_ends) and token_ends[token] <= sentence_end:
                    token += 1
                ends.append(len(ids) + token)
            ids += line_ids
            tags += line_tags
            ends.append(len(ids))
    if not document.has_entities:
        tags = [IGNORE] * len(ids)
    start = 0
    if rng is not None and rng.random() < 0.125 and len(ids) > 24:
        start = rng.randrange(1, min(len(ids) - 12, 40))
    windows = []
    while start < len(ids):
        fitting = [end for end in ends if start < end <= start + capacity]
        end = fitting[-1] if fitting else min(start + capacity, len(ids))
        windows.append(Window([first, *ids[start:end], last], [IGNORE, *tags[start:end], IGNORE]))
        start = end
    return windows


def frame(tokenizer: Tokenizer) -> list[int]:
    """Ids of the two tokens that a window stands between, `<s>` and `</s>` or `[CLS]` and `[SEP]`."""
    ids: list[int] = tokenizer.encode("").ids
    if len(ids) != 2:
        raise ValueError(f"the tokenizer puts {len(ids)} tokens around a text, must be 2")
    return ids


def lines_of(text: str) -> list[tuple[int, int]]:
    """Lines that hold something."""
    found = []
    start = 0
    for line in text.split("\n"):
        if line.strip():
            found.append((start, start + len(line)))
        start += len(line) + 1
    return found


def merge(documents: list[Document]) -> Document:
    """Neighbouring sentences of a set as one text."""
    if len(documents) == 1:
        return documents[0]
    first = documents[0]
    join = "" if first.lang in ("zh", "ja") else " "
    text = ""
    entities: list[Entity] = []
    for document in documents:
        own, found = document.fields[0]
        if text:
            text += join
        entities += [(s + len(text), e + len(text), k) for s, e, k in found]
        text += own
    return Document(first.lang, [(text, entities)], True, first.has_misc, first.topics, first.source, weight=first.weight)


def pad(windows: list[Window]) -> tuple[np.ndarray, np.ndarray]:
    """Ids (padded with PAD) and tags (padded with IGNORE), `[windows, longest]`."""
    longest = max(len(window.ids) for window in windows)
    ids = np.full((len(windows), longest), PAD, np.int64)
    tags = np.full((len(windows), longest), IGNORE, np.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = window.ids
        tags[row, : len(window.tags)] = window.tags
    return ids, tags
