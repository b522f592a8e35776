from pathlib import Path

import pytest

from rasid_training import authored

GOOD = """en_0001
topics: security, politics
title: [[ORG|Nato]] meets in [[LOC|Riga]]
---
General [[PER|Abc]] spoke in [[LOC|Riga]].

[[ORG|Nato]] listened."""


def test_markup_becomes_offsets():
    article = authored.parse(GOOD)
    assert article["title"] == "Nato meets in Riga"
    assert article["topics"] == ["security", "politics"]
    for entity in article["entities"]:
        assert article[entity["field"]][entity["start"] : entity["end"]] == entity["text"]
    assert list(authored.complaints(article)) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("in [[LOC|Riga]].", "in Riga.", "stands unmarked in text"),
        ("[[PER|Abc]]", "[[PER|Abc ]]", "white space"),
        ("security,", "war,", "unknown topic war"),
        ("[[PER|Abc]]", "[[PER|Abc", "broken markup"),
        ("en_0001", "english", "no identifier"),
    ],
)
def test_slips_are_found(old, new, complaint):
    assert any(complaint in found for found in authored.complaints(authored.parse(GOOD.replace(old, new, 1))))


@pytest.mark.parametrize("folder", sorted(p for p in (Path(__file__).parents[1] / "authored").glob("*") if p.is_dir()))
def test_the_articles_of_this_project_have_no_slip(folder):
    articles = authored.read(folder)
    assert articles
    assert [(a["id"], problem) for a in articles for problem in authored.complaints(a)] == []
