import json
from pathlib import Path

import pytest

from rasid_training.detokenize import natural
from rasid_training.text import sentences, words

CASES = json.loads((Path(__file__).parents[2] / "tests/data/detokenize.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES)
def test_text_is_put_together_as_serving_evaluates_it(case):
    text, spans = natural(case["tokens"], case["language"], case.get("space_after"), case.get("join", " "))
    assert text == case["text"]
    assert len(spans) == len(case["tokens"])


def test_words_keep_hyphens_and_part_characters_of_unspaced_scripts():
    text = "al-Hakim (U.S.) 東京, Ankara'da"
    assert [text[s:e] for s, e in words(text)] == ["al-Hakim", "(", "U.S", ".", ")", "東", "京", ",", "Ankara'da"]


def test_sentences_cover_the_text():
    text = "Gen. Smith came. He left!\nوصل الوفد؟ نعم."
    parts = [text[s:e] for s, e in sentences(text)]
    assert "".join(parts) == text
    assert parts == ["Gen. Smith came. ", "He left!\n", "وصل الوفد؟ ", "نعم."]
