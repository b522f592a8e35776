"""A bundle is calibrated on held-out articles only, and measured on those that its calibration has not seen."""

import argparse
import json
from pathlib import Path

from rasid_training import bundle, corpora
from rasid_training.base import Shape

PROGRAM = """#!/bin/sh
echo "$@" >>{log}
"""


def test_each_half_is_measured_by_the_calibration_of_the_other(tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    run.mkdir()
    sets = [
        {"file": "a.test.jsonl", "task": "ner", "split": "test"},
        {"file": "a.train.jsonl", "task": "ner", "split": "train"},
    ]
    (data / "datasets.json").write_text(json.dumps(sets))
    articles = tmp_path / "articles.jsonl"
    articles.write_text("".join(json.dumps({"id": f"article-{number}"}) + "\n" for number in range(200)))
    program, log = tmp_path / "rasid", tmp_path / "log"
    program.write_text(PROGRAM.format(log=log))
    program.chmod(0o755)
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    bundle.add_options(parser, required=True)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"name": "news", "encoder": {"num_hidden_layers": 12}}))
    paths = ["--data", data, "--bundle", tmp_path / "out", "--rasid", program, "--manifest", manifest]
    options = parser.parse_args([str(path) for path in paths])
    bundle.write_shape(run, Shape(1000, 32, 1, 2, 64, 512))
    bundle.make(run, [articles], options)
    made = json.loads((run / "manifest.json").read_text())
    assert made["name"] == "news"
    assert made["encoder"]["num_hidden_layers"] == 1

    calls = log.read_text().splitlines()
    verbs = [call.split()[0] for call in calls]
    assert verbs == ["model", *["eval", "model", "eval"] * 2, "eval", "model", "eval"]
    for fitted, measured in ((1, 3), (4, 6)):
        names = [{name for name in ("half-a.jsonl", "half-b.jsonl") if name in calls[at]} for at in (fitted, measured)]
        assert names[0] | names[1] == {"half-a.jsonl", "half-b.jsonl"}
        assert not names[0] & names[1]
    assert "a.test.jsonl" in calls[-1]
    assert "a.train.jsonl" not in calls[-1]
    assert "--topics" not in calls[-1]

    def ids(name: str) -> set[str]:
        return {item["id"] for item in corpora.lines(run / "calibration" / f"{name}.jsonl")}

    assert ids("half-a")
    assert ids("half-b")
    assert not ids("half-a") & ids("half-b")
    assert ids("half-a") | ids("half-b") == ids("held-out")
    assert all(corpora.held_out(identifier) for identifier in ids("held-out"))
