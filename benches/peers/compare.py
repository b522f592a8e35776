#!/usr/bin/env python3
"""Rasid's encoder against ONNX Runtime, PyTorch and candle-transformers: same weights, float32, same number of threads.

Run it anywhere in a checkout: `python3 benches/peers/compare.py`. It makes its own virtual environment and exports the weights of
models/default under the target directory. The engines take turns, each in a process of its own, so that none disturbs another and
all see the machine as it is; a ratio is the median of the rounds' ratios.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
WORK = TARGET / "peers"
PYTHON = WORK / "venv" / "bin" / "python"

LONGEST = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="32,128,256,512", help="tokens of a sequence")
    parser.add_argument("--batches", default="1,8", help="sequences at a time")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="least time for each figure of a round")
    parser.add_argument("--engines", default="onnx,onnx-fused,torch,candle", help="whom to compare with")
    parser.add_argument("--mixed-rounds", type=int, default=3, help="rounds over the documents of mixed length")
    args = parser.parse_args()

    prepare_python()
    engines = ["rasid", *args.engines.split(",")]
    commands = {engine: command(engine, args.threads) for engine in engines}
    subprocess.run([PYTHON, HERE / "export.py", ROOT / "models/default", WORK / "model"], check=True)
    print(f"{platform.machine()}, {cpu_name()}, {args.threads} threads, {args.rounds} rounds", flush=True)

    uniform = ["--lengths", args.lengths, "--batches", args.batches, "--seconds", str(args.seconds), "--json"]
    rounds = [{engine: points(run(commands[engine] + uniform, args.threads)) for engine in engines} for _ in range(args.rounds)]
    for point in rounds[0]["rasid"]:
        report(f"{point[0]} x {point[1]}", [{engine: figures[engine][point] for engine in engines} for figures in rounds])

    if args.mixed_rounds:
        sequences = WORK / "sequences.json"
        sequences.write_text(json.dumps(mixed_lengths()))
        arguments = ["--sequences", str(sequences), "--seconds", "0", "--runs", "1", "--json"]
        # The others take an hour for it.
        fast = [engine for engine in engines if engine == "rasid" or engine.startswith("onnx")]
        rounds = [{engine: run(commands[engine] + arguments, args.threads) for engine in fast} for _ in range(args.mixed_rounds)]
        report("mixed", [{engine: figures[engine]["tokens_per_second"] for engine in fast} for figures in rounds])


def report(name: str, rounds: list[dict[str, float]]) -> None:
    """One line: our tokens per second, then each peer's and our ratio to it."""
    cells = [f"{name:>8}: rasid {statistics.median(figures['rasid'] for figures in rounds):6.0f}"]
    for engine in rounds[0]:
        if engine != "rasid":
            speed = statistics.median(figures[engine] for figures in rounds)
            ratio = statistics.median(figures["rasid"] / figures[engine] for figures in rounds)
            cells.append(f"{engine} {speed:6.0f} ({ratio:.2f}x)")
    print("  ".join(cells), flush=True)


def points(figures: list[dict]) -> dict[tuple[int, int], float]:
    return {(point["batch"], point["length"]): point["tokens_per_second"] for point in figures}


def run(arguments: list, threads: int):
    count = str(threads)
    environment = os.environ | {"RAYON_NUM_THREADS": count, "OMP_NUM_THREADS": count, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(list(map(str, arguments)), check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def command(engine: str, threads: int) -> list:
    """The command of an engine, built if it has to be."""
    cargo = ["cargo", "build", "--release", "--quiet", "--manifest-path"]
    if engine == "rasid":
        subprocess.run([*cargo, ROOT / "Cargo.toml"], check=True)
        return [TARGET / "release/rasid", "bench", "encoder", "--model", ROOT / "models/default", "--threads", threads]
    if engine == "candle":
        subprocess.run([*cargo, HERE / "candle/Cargo.toml", "--target-dir", TARGET], check=True)
        return [TARGET / "release/candle-bert", WORK / "model/model.safetensors", WORK / "model/config.json"]
    return [PYTHON, HERE / "peer.py", engine, WORK / "model", "--threads", threads]


def prepare_python() -> None:
    if not PYTHON.exists():
        venv.create(WORK / "venv", with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)


def mixed_lengths() -> list[int]:
    """500 documents with the lengths of news (log-normal, 80 to 1,500 tokens), those beyond the positions cut into parts."""
    choose = random.Random(1)
    sequences = []
    for _ in range(500):
        rest = 0
        while not 80 <= rest <= 1500:
            rest = round(choose.lognormvariate(6.1, 0.7))
        while rest > 0:
            sequences.append(min(rest, LONGEST))
            rest -= LONGEST
    return sequences


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor())


if __name__ == "__main__":
    sys.exit(main())
