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
from .labels import TOPICS

#: What a run says of its network: `encoder` and `topics` as in a manifest, `tiers` of the data that it read.
NETWORK = "network.json"

Object = corpora.Object


def write_network(run: Path, shape: Shape, added: list[str], tiers: list[str]) -> None:
    """Notes what a bundle must say of a run's network."""
    network = {"encoder": asdict(shape), "topics": [*TOPICS, *added], "tiers": tiers}
    (run / NETWORK).write_text(json.dumps(network, indent=1), "utf-8")


def draft(run: Path, manifest: Path) -> Path:
    """A manifest's names, labels and licence with the shape of a run; refuses what does not fit the run."""
    network: Object = json.loads((run / NETWORK).read_text("utf-8"))
    made: Object = json.loads(manifest.read_text("utf-8"))
    topics = [topic["id"] for topic in made["topics"]]
    if topics != network["topics"]:
        raise ValueError(f"{manifest}: topics are {topics}, the network's are {network['topics']}")
    closed = [tier for tier in network["tiers"] if tier != "open"]
    if closed and not any(part in made["license"] for part in ("-NC", "LicenseRef-")):
        raise ValueError(f"{manifest}: license is {made['license']}, but sets of the tiers {', '.join(closed)} were read")
    path = run / "manifest.json"
    path.write_text(json.dumps(made | {"encoder": network["encoder"]}, ensure_ascii=False), "utf-8")
    return path


class Articles:
    """Articles of a run's tiers and a user's own, of which a sixth is held out."""

    def __init__(self, run: Path, data: Path, own: list[Path]) -> None:
        network: Object = json.loads((run / NETWORK).read_text("utf-8"))
        self.added = network["topics"][len(TOPICS) :]
        entries: list[Object] = json.loads((data / "datasets.json").read_text("utf-8"))
        listed = [e for e in entries if e["task"] == "articles" and e["split"] in ("train", "all")]
        self.files = [data / e["file"] for e in listed if e["licence_tier"] in network["tiers"]] + own
        self.work = run / "calibration"
        self.work.mkdir(exist_ok=True)
        self.catalog: list[Object] = []

    def write(self, name: str, keep: Callable[[str], bool]) -> list[Path]:
        """Writes those whose identifier is to be kept: one file, and more for those that know of added topics."""
        groups: dict[tuple[str, ...], list[Object]] = {}
        for file in self.files:
            items = list(corpora.lines(file))
            known = corpora.topics_of(items)
            group = groups.setdefault(tuple(topic for topic in self.added if topic in known), [])
            group += [item for item in items if corpora.held_out(item["id"]) and keep(item["id"])]
        paths = []
        for known_here, items in groups.items():
            if not items:
                continue
            path = self.work / ("-".join((name, *known_here)) + ".jsonl")
            path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), "utf-8")
            self.catalog.append({"file": path.name, "covered_topics": [*TOPICS, *known_here]})
            paths.append(path)
        if not paths:
            raise ValueError(f"no article is held out for {name}: give more with --articles")
        (self.work / "datasets.json").write_text(json.dumps(self.catalog), "utf-8")
        return paths

    def halves(self) -> dict[str, list[Path]]:
        """Two halves of those that are held out: each is measured with the calibration of the other."""
        first = self.write("half-a", lambda key: half(key) == 0)
        return {"a": first, "b": self.write("half-b", lambda key: half(key) == 1)}


def half(identifier: str) -> int:
    """Which half of the held-out articles one belongs to."""
    return int(corpora.fingerprint(identifier + " half"), 16) % 2


class Rasid:
    """The program."""

    def __init__(self, program: Path) -> None:
        if not shutil.which(program):
            raise FileNotFoundError(f"{program}: cannot be run; `cargo build --release` makes it, or name one with --rasid")
        self.program = program

    def __call__(self, *arguments: str | Path) -> None:
        """Runs it; its output is ours."""
        subprocess.run([self.program, *arguments], check=True)

    def evaluate(self, model: Path, datasets: Path, *arguments: str | Path) -> None:
        """Scores a bundle."""
        self("eval", "--model", model, "--datasets", datasets, *arguments)


def calibrated(rasid: Rasid, bundle: Path, articles: list[Path], identifier: str, work: Path) -> None:
    """Fits a bundle's calibration on articles, in place."""
    scores = work / f"{identifier}.scores.jsonl"
    rasid.evaluate(bundle, work / "datasets.json", "--articles", *articles, "--bootstrap", "0", "--scores", scores)
    rasid("model", "calibrate", "--scores", scores, "--bundle", bundle, "--id", identifier)


def cross(rasid: Rasid, bundle: Path, halves: dict[str, list[Path]], work: Path) -> None:
    """Figures of held-out articles, each half by the calibration of the other, into the bundle's `eval`."""
    for name, other in (("a", "b"), ("b", "a")):
        copy = work / f"by-half-{other}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(bundle, copy, ignore=shutil.ignore_patterns("eval"))
        calibrated(rasid, copy, halves[other], copy.name, work)
        report = bundle / "eval" / f"articles-{name}"
        rasid.evaluate(copy, work / "datasets.json", "--articles", *halves[name], "--report", report)


def files_to_score(data: Path, task: str) -> list[Path]:
    """The test files of a task."""
    entries: list[Object] = json.loads((data / "datasets.json").read_text("utf-8"))
    return [data / entry["file"] for entry in entries if entry["task"] == task and entry["split"] == "test"]


def check(run: Path, options: argparse.Namespace) -> None:
    """Finds what [`make`] would fail at, before there are weights."""
    draft(run, options.manifest)
    Rasid(options.rasid)
    Articles(run, options.data, options.articles).halves()


def make(run: Path, options: argparse.Namespace) -> None:
    """Packs, calibrates on the held-out articles and scores; `options` are `data`, `articles` and those of [`add_options`]."""
    bundle: Path = options.bundle
    rasid, manifest = Rasid(options.rasid), draft(run, options.manifest)
    articles = Articles(run, options.data, options.articles)
    halves = articles.halves()
    whole = articles.write("held-out", lambda _: True)
    bundle.mkdir(parents=True, exist_ok=True)
    rasid(
        *("model", "pack", "--manifest", manifest, "--weights", run / "weights.safetensors"),
        *("--embeddings", options.embeddings or run / "embeddings.gguf", "--tokenizer", run / "tokenizer.json"),
        *("--out", bundle),
    )
    cross(rasid, bundle, halves, articles.work)
    calibrated(rasid, bundle, whole, options.calibration_id, articles.work)
    files: list[str | Path] = []
    for task in ("ner", "topics"):
        if found := files_to_score(options.data, task):
            files += [f"--{task}", *found]
    if files:
        datasets = options.data / "datasets.json"
        rasid.evaluate(bundle, datasets, "--limit", options.limit, *files, "--report", bundle / "eval")


def add_options(parser: argparse.ArgumentParser, required: bool) -> None:
    """What a bundle is made by."""
    parser.add_argument("--bundle", type=Path, required=required, help="folder of the bundle to make")
    manifest = Path("models/default/manifest.json")
    parser.add_argument("--manifest", type=Path, default=manifest, help="names, labels, windows, licence")
    parser.add_argument("--embeddings", type=Path, help="word embeddings; unless given, those of the run")
    parser.add_argument("--rasid", type=Path, default=Path("target/release/rasid"), help="the program")
    parser.add_argument("--calibration-id", default="held-out-articles", help="its name, which every answer carries")
    parser.add_argument("--limit", default="300", help="rows to score of each test file")


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(prog="rasid_training.bundle", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--data", type=Path, required=True, help="folder with datasets.json")
    parser.add_argument("--articles", type=Path, nargs="*", default=[], help="your own annotated articles; a sixth is held out")
    add_options(parser, required=True)
    options = parser.parse_args()
    try:
        make(options.run, options)
    except (OSError, ValueError) as problem:
        raise SystemExit(str(problem)) from None


if __name__ == "__main__":
    main()
