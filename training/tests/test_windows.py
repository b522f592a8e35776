import random

from rasid_training import augment
from rasid_training.corpora import Document
from rasid_training.labels import TAGS
from rasid_training.windows import IGNORE, cut, word_tags


def tagged(tokenizer, document, capacity=126):
    window = cut(tokenizer, document, capacity, None)[0]
    return [(tokenizer.id_to_token(i), TAGS[t]) for i, t in zip(window.ids, window.tags) if t != IGNORE]


def test_the_first_token_that_carries_a_character_is_labelled(tokenizer):
    document = Document("en", [("the Abc Def, the.", [(4, 11, 0)])], True)
    labels = tagged(tokenizer, document)
    assert [tag for _, tag in labels] == ["O", "B-PER", "I-PER", "O", "O", "O"]
    # A lone separator carries nothing.
    assert all(token != "▁" for token, _ in labels)


def test_a_name_that_begins_inside_a_word_is_cut_off():
    text = "l'Abc"
    assert word_tags(text, [(2, 5, 2)]) == [(0, 2, 0), (2, 5, 5)]


def test_neighbouring_names_stay_apart():
    assert [tag for _, _, tag in word_tags("Abc Def", [(0, 3, 2), (4, 7, 2)])] == [5, 5]


def test_windows_end_where_sentences_do(tokenizer):
    text = "Abc def ghi. Jkl mno pqr. Stu vwx."
    windows = cut(tokenizer, Document("en", [(text, [])], True), 30, None)
    sizes = [len(window.ids) - 2 for window in windows]
    whole = len(tokenizer.encode(text, add_special_tokens=False).ids)
    assert sum(sizes) == whole
    assert max(sizes) <= 30
    assert len(sizes) == 2


def test_swapped_names_stay_annotated():
    document = Document("en", [("Abc met Def in Ghi.", [(0, 3, 0), (8, 11, 0), (15, 18, 2)])], True)
    pool = augment.NamePool([Document("en", [("Longer Name, Place", [(0, 11, 0), (13, 18, 2)])], True)])
    changed = 0
    for seed in range(20):
        text, entities = pool.swap(document, random.Random(seed)).fields[0]
        assert all(text[s:e] in {"Abc", "Def", "Ghi", "Longer Name", "Place"} for s, e, _ in entities)
        assert text.count(" met ") == 1
        changed += text != "Abc met Def in Ghi."
    assert changed > 10


def test_recasing_keeps_offsets():
    document = Document("de", [("Straße in Köln", [(10, 14, 2)])], True)
    for seed in range(6):
        text, entities = augment.recase(document, random.Random(seed)).fields[0]
        assert text[slice(*entities[0][:2])].lower() == "köln"
