import gzip
import json

import pytest

from rasid_training import corpora, mixture
from rasid_training.labels import RELATED, TOPIC_IDS, TOPICS, related

CONFIG = {
    "seed": 1,
    "tiers": ["open"],
    "added_topics": [],
    "passes": {"ner": 1, "topics": 1, "articles": 1},
    "weights": {},
    "dev": [],
    "dev_from_train": {},
}


def write(path, rows):
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def entry(file, task, split, tier="open", **more):
    name, lang = file.split("/")[1].split(".")[:2]
    base = {"file": file, "name": name, "task": task, "lang": lang, "split": split, "licence_tier": tier, "trust": 5}
    return base | {"annotated_types": ["PER", "ORG", "LOC"], "join": " ", "covered_topics": ["sport", "politics"]} | more


def test_related_topics_are_known_and_mutual():
    assert set(RELATED) == set(TOPICS)
    for topic in TOPICS:
        assert topic not in related(topic)
        assert all(topic in related(other) for other in related(topic))


def test_a_missing_topic_is_unknown_where_it_may_go_with_the_label():
    targets = corpora.single_label_targets(["politics"])
    assert targets[TOPIC_IDS["politics"]] == 1
    assert targets[TOPIC_IDS["security"]] == -1
    assert targets[TOPIC_IDS["sport"]] == 0


def test_tiers_and_texts_of_test_files_are_left_out(tmp_path):
    train = [
        {"lang": "en", "tokens": ["Erbil", "is", "far", "."], "tags": ["B-LOC", "O", "O", "O"]},
        {"lang": "en", "tokens": ["Secret", "words"], "tags": ["O", "O"]},
    ]
    write(tmp_path / "ner/a.en.train.jsonl.gz", train)
    write(tmp_path / "ner/a.en.test.jsonl.gz", [{"lang": "en", "tokens": ["secret", "words", "!"], "tags": ["O"] * 3}])
    write(tmp_path / "ner/b.en.train.jsonl.gz", train)
    entries = [
        entry("ner/a.en.train.jsonl.gz", "ner", "train"),
        entry("ner/a.en.test.jsonl.gz", "ner", "test"),
        entry("ner/b.en.train.jsonl.gz", "ner", "train", tier="nc"),
    ]
    (tmp_path / "datasets.json").write_text(json.dumps(entries), "utf-8")
    corpus = mixture.load(CONFIG, tmp_path)
    assert [source.name for source in corpus.entities] == ["a.en"]
    assert [document.fields for document in corpus.entities[0].documents] == [[("Erbil is far.", [(0, 5, 2)])]]
    assert not corpus.entities[0].documents[0].has_misc


def test_rows_without_a_topic_say_nothing(tmp_path):
    write(
        tmp_path / "topics/c.en.all.jsonl.gz",
        [
            {"lang": "en", "text": "A match.", "topics": ["sport"]},
            {"lang": "en", "text": "The world.", "topics": [], "candidates": ["politics"]},
        ],
    )
    (tmp_path / "datasets.json").write_text(json.dumps([entry("topics/c.en.all.jsonl.gz", "topics", "all")]), "utf-8")
    corpus = mixture.load(CONFIG, tmp_path)
    assert [document.fields[0][0] for document in corpus.topics[0].documents] == ["A match."]


def test_an_added_topic_is_known_only_where_it_is_covered(tmp_path):
    added = ["gaming"]
    rows = [{"lang": "en", "text": "A new console.", "topics": ["gaming"]}, {"lang": "en", "text": "Won.", "topics": ["sport"]}]
    write(tmp_path / "topics/d.en.train.jsonl.gz", rows)
    known = entry("topics/d.en.train.jsonl.gz", "topics", "train", covered_topics=["gaming", "sport"])
    gaming, sport = corpora.topic_documents(tmp_path / known["file"], known, added)
    assert gaming.topics == [-1] * len(TOPICS) + [1]
    assert (sport.topics[TOPIC_IDS["sport"]], sport.topics[-1]) == (1, 0)
    silent = known | {"covered_topics": ["sport"]}
    assert [d.topics[-1] for d in corpora.topic_documents(tmp_path / known["file"], silent, added)] == [-1, -1]

    article = {"id": "en_1", "lang": "en", "title": "T", "text": "x", "entities": [], "topics": ["sport"]}
    write(tmp_path / "articles/old.jsonl.gz", [article])
    write(tmp_path / "articles/new.jsonl.gz", [article, article | {"topics": ["gaming"]}])
    assert [d.topics[-1] for d in corpora.articles(tmp_path / "articles/old.jsonl.gz", added)] == [-1]
    assert [d.topics[-1] for d in corpora.articles(tmp_path / "articles/new.jsonl.gz", added)] == [0, 1]


def test_labels_that_the_network_has_not_are_refused_with_their_row(tmp_path):
    write(tmp_path / "topics/e.en.train.jsonl.gz", [{"lang": "en", "text": "Won.", "topics": ["sports"]}])
    with pytest.raises(ValueError, match=r"e.en.train.jsonl.gz, row 1: sports: must be of security, "):
        list(
            corpora.topic_documents(
                tmp_path / "topics/e.en.train.jsonl.gz", entry("topics/e.en.train.jsonl.gz", "topics", "train")
            )
        )
    write(tmp_path / "ner/e.en.train.jsonl.gz", [{"lang": "en", "tokens": ["Ann"], "tags": ["B-PERSON"]}])
    with pytest.raises(ValueError, match="row 1: B-PERSON: must be of O, B-PER"):
        list(corpora.ner_documents(tmp_path / "ner/e.en.train.jsonl.gz", entry("ner/e.en.train.jsonl.gz", "ner", "train")))


def test_an_inside_tag_goes_on_from_the_tag_before_it_or_is_nothing():
    tags = ["I-PER", "B-PER", "I-PER", "O", "I-PER", "B-LOC", "I-ORG", "I-ORG"]
    spans = [(3 * n, 3 * n + 2) for n in range(len(tags))]
    assert corpora.entities_of(tags, spans) == [(3, 8, 0), (15, 17, 2)]


def test_articles_of_test_files_are_left_out(tmp_path):
    article = {"id": "en_3", "lang": "en", "title": "T", "text": "Secret, words.", "entities": [], "topics": ["sport"]}
    write(tmp_path / "articles/own.jsonl.gz", [article, article | {"id": "en_4", "text": "Others"}])
    write(tmp_path / "ner/a.en.test.jsonl.gz", [{"lang": "en", "tokens": ["secret", "words", "!"], "tags": ["O"] * 3}])
    (tmp_path / "datasets.json").write_text(json.dumps([entry("ner/a.en.test.jsonl.gz", "ner", "test")]), "utf-8")
    corpus = mixture.load(CONFIG | {"articles": [str(tmp_path / "articles/own.jsonl.gz")]}, tmp_path)
    assert [d.source for d in corpus.articles[0].documents + corpus.held_out] == ["en_4"]


def test_a_file_of_articles_may_have_passes_of_its_own(tmp_path):
    article = {"id": "en_4", "lang": "en", "title": "T", "text": "Words.", "entities": [], "topics": ["sport"]}
    paths = [tmp_path / "articles/old.jsonl.gz", tmp_path / "articles/new.jsonl.gz"]
    for path in paths:
        write(path, [article])
    (tmp_path / "datasets.json").write_text("[]", "utf-8")
    corpus = mixture.load(CONFIG | {"article_passes": {"new": 24}, "articles": [str(path) for path in paths]}, tmp_path)
    assert [source.passes for source in corpus.articles] == [CONFIG["passes"]["articles"], 24]


def test_one_article_in_six_is_held_out():
    share = sum(corpora.held_out(f"ar_{number:04}") for number in range(3000)) / 3000
    assert 0.14 < share < 0.19
