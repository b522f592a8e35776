"""A bundle is calibrated on held-out articles only, and measured on those that its calibration has not seen."""

import argparse
import json

import pytest

from rasid_training import bundle, corpora
from rasid_training.base import Shape
from rasid_training.labels import TOPICS

PROGRAM = """#!/bin/sh
echo "$@" >>{log}
"""


def manifest(path, added=(), licence="CC-BY-SA-4.0"):
    topics = [{"id": topic} for topic in (*TOPICS, *added)]
    path.write_text(json.dumps({"name": "news", "license": licence, "topics": topics, "encoder": {"num_hidden_layers": 12}}))


@pytest.fixture
def options(tmp_path):
    """A run, data and a program that notes how it was called."""
    for name in ("data", "run"):
        (tmp_path / name).mkdir()
    sets = [
        {"file": "a.test.jsonl", "task": "ner", "split": "test"},
        {"file": "a.train.jsonl", "task": "ner", "split": "train"},
        {"file": "listed.jsonl", "task": "articles", "split": "train", "licence_tier": "open"},
        {"file": "closed.jsonl", "task": "articles", "split": "train", "licence_tier": "nc"},
    ]
    (tmp_path / "data/datasets.json").write_text(json.dumps(sets))
    for file in ("data/listed", "data/closed", "own"):
        rows = ({"id": f"{file}-{number}", "topics": ["sport"]} for number in range(200))
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    program = tmp_path / "rasid"
    program.write_text(PROGRAM.format(log=tmp_path / "log"))
    program.chmod(0o755)
    manifest(tmp_path / "manifest.json")
    bundle.write_network(tmp_path / "run", Shape(1000, 32, 1, 2, 64, 512), [], ["open"])
    parser = argparse.ArgumentParser()
    bundle.add_options(parser, required=True)
    paths = ["--bundle", tmp_path / "out", "--rasid", program, "--manifest", tmp_path / "manifest.json"]
    made = parser.parse_args([str(path) for path in paths])
    made.data, made.articles = tmp_path / "data", [tmp_path / "own.jsonl"]
    return made


def test_each_half_is_measured_by_the_calibration_of_the_other(tmp_path, options):
    run = tmp_path / "run"
    bundle.make(run, options)
    calls = (tmp_path / "log").read_text().splitlines()
    verbs = [call.split()[0] for call in calls]
    assert verbs == ["model", *["eval", "model", "eval"] * 2, "eval", "model", "eval"]
    for fitted, measured in ((1, 3), (4, 6)):
        names = [{name for name in ("half-a.jsonl", "half-b.jsonl") if name in calls[at]} for at in (fitted, measured)]
        assert names[0] | names[1] == {"half-a.jsonl", "half-b.jsonl"}
        assert not names[0] & names[1]
    assert "a.test.jsonl" in calls[-1]
    assert "a.train.jsonl" not in calls[-1]
    assert "--topics" not in calls[-1]
    made = json.loads((run / "manifest.json").read_text())
    assert (made["name"], made["encoder"]["num_hidden_layers"]) == ("news", 1)

    def ids(name):
        return {item["id"] for item in corpora.lines(run / "calibration" / f"{name}.jsonl")}

    assert ids("half-a")
    assert ids("half-b")
    assert not ids("half-a") & ids("half-b")
    assert ids("half-a") | ids("half-b") == ids("held-out")
    assert all(corpora.held_out(identifier) for identifier in ids("held-out"))
    assert {identifier.rsplit("-", 1)[0] for identifier in ids("held-out")} == {"data/listed", "own"}


def test_articles_say_nothing_of_an_added_topic_that_they_do_not_know(tmp_path, options):
    bundle.write_network(tmp_path / "run", Shape(1000, 32, 1, 2, 64, 512), ["gaming"], ["open"])
    rows = ({"id": f"own-{number}", "topics": ["gaming"]} for number in range(200))
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    articles = bundle.Articles(tmp_path / "run", options.data, options.articles)
    paths = articles.write("held-out", lambda _: True)
    covered = {entry["file"]: entry["covered_topics"] for entry in json.loads((articles.work / "datasets.json").read_text())}
    assert covered == {"held-out.jsonl": list(TOPICS), "held-out-gaming.jsonl": [*TOPICS, "gaming"]}
    assert [{item["topics"][0] for item in corpora.lines(path)} for path in paths] == [{"sport"}, {"gaming"}]


def test_a_manifest_that_does_not_fit_the_run_is_refused(tmp_path, options):
    run = tmp_path / "run"
    manifest(options.manifest, added=["gaming"])
    with pytest.raises(ValueError, match="the network's are"):
        bundle.make(run, options)
    manifest(options.manifest)
    bundle.write_network(run, Shape(1000, 32, 1, 2, 64, 512), [], ["open", "nc"])
    with pytest.raises(ValueError, match=r"license is CC-BY-SA-4\.0, but sets of the tiers nc were read"):
        bundle.make(run, options)
    manifest(options.manifest, licence="CC-BY-NC-SA-4.0")
    assert bundle.draft(run, options.manifest)


def test_what_is_missing_is_said_before_anything_runs(tmp_path, options):
    options.rasid = tmp_path / "nothing"
    with pytest.raises(FileNotFoundError, match="cargo build --release"):
        bundle.make(tmp_path / "run", options)
    options.rasid, options.articles = tmp_path / "rasid", []
    (tmp_path / "data/listed.jsonl").write_text("")
    with pytest.raises(ValueError, match="no article is held out for half-a"):
        bundle.make(tmp_path / "run", options)
    assert not (tmp_path / "log").exists()
