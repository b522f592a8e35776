"""`python -m rasid_training.bundle`: from a run to a calibrated bundle with its figures, by the code that serves."""

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from . import corpora
from .base import Shape

SHAPE = "encoder.json"

Object = corpora.Object


def split(files: list[Path], out: Path, name: str, keep: Callable[[str], bool]) -> Path:
    """Writes the articles whose identifier is to be kept into one file."""
    path = out / f"{name}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for source in files:
            for item in corpora.lines(source):
                if keep(item["id"]):
                    file.write(json.dumps(item, ensure_ascii=False) + "\n")
    return path


def half(identifier: str) -> int:
    """Which half of the held-out articles one belongs to: each is measured with the calibration of the other."""
    return int(corpora.fingerprint(identifier + " half"), 16) % 2


class Rasid:
    """The program, on one data folder."""

    def __init__(self, program: Path, data: Path) -> None:
        self.program = program
        self.data = data

    def __call__(self, *arguments: str | Path) -> None:
        """Runs it; its output is ours."""
        subprocess.run([self.program, *arguments], check=True)

    def evaluate(self, model: Path, arguments: list[str | Path]) -> None:
        """Scores a bundle."""
        self("eval", "--model", model, "--datasets", self.data / "datasets.json", *arguments)


def calibrated(rasid: Rasid, bundle: Path, articles: Path, identifier: str, work: Path) -> None:
    """Fits a bundle's calibration on articles, in place."""
    scores = work / f"{articles.stem}.scores.jsonl"
    rasid.evaluate(bundle, ["--articles", articles, "--bootstrap", "0", "--scores", scores])
    rasid("model", "calibrate", "--scores", scores, "--bundle", bundle, "--id", identifier)


def cross(rasid: Rasid, bundle: Path, halves: list[Path], work: Path) -> None:
    """Figures of held-out articles, each half by the calibration of the other."""
    for index, articles in enumerate(halves):
        copy = work / f"by-{halves[1 - index].stem}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("eval"))
        calibrated(rasid, copy, halves[1 - index], f"{copy.name}", work)
        rasid.evaluate(copy, ["--articles", articles, "--report", work / f"report-{articles.stem}"])


def files_to_score(data: Path, task: str) -> list[Path]:
    """The test files of a task."""
    entries: list[Object] = json.loads((data / "datasets.json").read_text("utf-8"))
    return [data / entry["file"] for entry in entries if entry["task"] == task and entry["split"] == "test"]


def write_shape(run: Path, shape: Shape) -> None:
    """Notes the shape of a run's network."""
    (run / SHAPE).write_text(json.dumps(asdict(shape), indent=1), "utf-8")


def draft(run: Path, manifest: Path) -> Path:
    """A manifest's names and labels with the shape of a run."""
    path = run / "manifest.json"
    shape = json.loads((run / SHAPE).read_text("utf-8"))
    path.write_text(json.dumps(json.loads(manifest.read_text("utf-8")) | {"encoder": shape}, ensure_ascii=False), "utf-8")
    return path


def make(run: Path, articles: list[Path], options: argparse.Namespace) -> None:
    """Packs, calibrates on the held-out articles and scores; `options` are those of [`add_options`]."""
    bundle: Path = options.bundle
    work = run / "calibration"
    work.mkdir(exist_ok=True)
    bundle.mkdir(parents=True, exist_ok=True)
    rasid = Rasid(options.rasid, options.data)
    rasid(
        *("model", "pack", "--manifest", draft(run, options.manifest), "--weights", run / "weights.safetensors"),
        *("--embeddings", options.embeddings or run / "embeddings.gguf", "--tokenizer", run / "tokenizer.json"),
        *("--out", bundle),
    )
    first = split(articles, work, "half-a", lambda key: corpora.held_out(key) and half(key) == 0)
    second = split(articles, work, "half-b", lambda key: corpora.held_out(key) and half(key) == 1)
    cross(rasid, bundle, [first, second], work)
    calibrated(rasid, bundle, split(articles, work, "held-out", corpora.held_out), options.calibration_id, work)
    files: list[str | Path] = []
    for task in ("ner", "topics"):
        if found := files_to_score(options.data, task):
            files += [f"--{task}", *found]
    if files:
        rasid.evaluate(bundle, ["--limit", options.limit, *files, "--report", bundle / "eval"])


def add_options(parser: argparse.ArgumentParser, required: bool) -> None:
    """What a bundle is made by."""
    parser.add_argument("--bundle", type=Path, required=required, help="folder of the bundle to make")
    parser.add_argument("--manifest", type=Path, default=Path("models/default/manifest.json"), help="names, labels, windows")
    parser.add_argument("--embeddings", type=Path, help="word embeddings; unless given, those of the run")
    parser.add_argument("--rasid", type=Path, default=Path("target/release/rasid"), help="the program")
    parser.add_argument("--calibration-id", default="held-out-articles", help="its name, which every answer carries")
    parser.add_argument("--limit", default="300", help="rows to score of each test file")


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(prog="rasid_training.bundle", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--data", type=Path, required=True, help="folder with datasets.json")
    parser.add_argument("--articles", type=Path, nargs="+", required=True, help="annotated articles; a sixth is held out")
    add_options(parser, required=True)
    options = parser.parse_args()
    make(options.run, options.articles, options)


if __name__ == "__main__":
    main()
