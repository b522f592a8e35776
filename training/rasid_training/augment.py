"""Changes to a text that keep its annotation true."""

import random
from collections import defaultdict

from .corpora import Document, Field

CASED = {"en", "de", "es", "fr", "it", "pt", "nl", "pl", "sv", "da", "no", "tr", "id", "ru", "uk", "kmr"}


class NamePool:
    """Names by language and type, to put in the place of others."""

    def __init__(self, documents: list[Document]) -> None:
        pool: dict[tuple[str, int], list[str]] = defaultdict(list)
        for document in documents:
            for text, entities in document.fields:
                for start, end, kind in entities:
                    if "\n" not in text[start:end]:
                        pool[document.lang, kind].append(text[start:end])
        self.pool = dict(pool)

    def swap(self, document: Document, rng: random.Random) -> Document:
        """About half of the distinct names replaced, each by one of its language and type, everywhere in the document."""
        chosen: dict[tuple[str, int], str] = {}
        fields = []
        for text, entities in document.fields:
            parts: list[str] = []
            moved = []
            at = length = 0
            for start, end, kind in entities:
                name = text[start:end]
                if (name, kind) not in chosen:
                    # MISC is too mixed to be exchanged blindly.
                    others = self.pool.get((document.lang, kind), []) if kind != 3 else []
                    chosen[name, kind] = rng.choice(others) if others and rng.random() < 0.5 else name
                new = chosen[name, kind]
                parts += [text[at:start], new]
                length += start - at
                moved.append((length, length + len(new), kind))
                length += len(new)
                at = end
            parts.append(text[at:])
            fields.append(("".join(parts), moved))
        return replaced(document, fields)


def recase(document: Document, rng: random.Random) -> Document:
    """All capitals or all small letters, as headlines and posts have them; only where that keeps every offset."""
    if document.lang not in CASED:
        return document
    change = str.upper if rng.random() < 0.5 else str.lower
    fields = []
    for text, entities in document.fields:
        new = change(text)
        fields.append((new if len(new) == len(text) else text, entities))
    return replaced(document, fields)


def replaced(document: Document, fields: list[Field]) -> Document:
    """The document with other fields."""
    return Document(
        document.lang,
        fields,
        document.has_entities,
        document.has_misc,
        document.topics,
        document.source,
        document.row,
        document.weight,
    )
