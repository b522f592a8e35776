"""Annotated articles as people write them: marked-up text to JSON Lines, with every complaint that a machine can make.

`python -m rasid_training.authored FOLDER` reads all `*.txt` of a folder and writes `FOLDER.jsonl` beside it.
The format is that of `training/authored/GUIDE.md`.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .labels import TOPICS

MENTION = re.compile(r"\[\[(PER|ORG|LOC|MISC)\|([^\[\]|]+)\]\]")
ARTICLE = re.compile(r"(?m)^=== id:\s*")
IDENTIFIER = re.compile(r"[a-z]{2,3}_\d+")

Article = dict[str, Any]


def unmark(marked: str, field: str) -> tuple[str, list[dict[str, Any]]]:
    """Text without markup, and its entities in code points."""
    text = ""
    entities = []
    at = 0
    for match in MENTION.finditer(marked):
        text += marked[at : match.start()]
        kind, name = match.groups()
        entities.append({"type": kind, "start": len(text), "end": len(text) + len(name), "text": name, "field": field})
        text += name
        at = match.end()
    return text + marked[at:], entities


def parse(block: str) -> Article:
    """One article: what stands between two `=== id:` lines."""
    head, _, body = block.partition("\n---\n")
    identifier, *settings = head.split("\n")
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in settings)}
    title, in_title = unmark(values.get("title", ""), "title")
    text, in_text = unmark(body.strip(), "text")
    topics = [topic.strip() for topic in values.get("topics", "").split(",") if topic.strip()]
    identifier = identifier.strip()
    lang = identifier.split("_", maxsplit=1)[0]
    return {"id": identifier, "lang": lang, "title": title, "text": text, "topics": topics, "entities": in_title + in_text}


def complaints(article: Article) -> Iterator[str]:
    """What is wrong with an article; above all a marked name that also stands unmarked."""
    if not IDENTIFIER.fullmatch(article["id"]):
        yield "is no identifier like ar_0001"
    yield from (f"unknown topic {topic}" for topic in article["topics"] if topic not in TOPICS)
    for field in ("title", "text"):
        value = article[field]
        if not value:
            yield f"has no {field}"
        if "[[" in value or "]]" in value:
            yield f"broken markup in {field}"
        own = [entity for entity in article["entities"] if entity["field"] == field]
        for name in {entity["text"] for entity in article["entities"]}:
            if name != name.strip():
                yield f"white space at an edge of {name!r}"
            if len(name) < 4:
                continue
            for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", value):
                if not any(e["start"] <= match.start() and match.end() <= e["end"] for e in own):
                    yield f"{name!r} stands unmarked in {field} at {match.start()}"


def read(folder: Path) -> list[Article]:
    """All articles of a folder, in the order of files and lines."""
    texts = (path.read_text("utf-8") for path in sorted(folder.glob("*.txt")))
    return [parse(block) for text in texts for block in ARTICLE.split(text)[1:]]


def main() -> int:
    """Checks, writes and counts; 1 if there is a complaint."""
    folder = Path(sys.argv[1])
    articles = read(folder)
    problems = [f"{article['id']}: {problem}" for article in articles for problem in complaints(article)]
    problems += [f"{name}: stands twice" for name, n in Counter(a["id"] for a in articles).items() if n > 1]
    with folder.with_suffix(".jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(article, ensure_ascii=False) + "\n" for article in articles)
    print(*problems, sep="\n")
    print(len(articles), "articles", dict(Counter(a["lang"] for a in articles)))
    print(dict(Counter(topic for a in articles for topic in a["topics"])))
    print(dict(Counter(entity["type"] for a in articles for entity in a["entities"])), len(problems), "complaints")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
