"""`python -m rasid_training.average A B --share 0.35 --out C`: weights between those of two runs that began alike.

Averages of runs that go on from the same weights are often better than either (model soups, Wortsman et al. 2022).
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file


def average(first: Path, second: Path, share: float, out: Path) -> None:
    """Writes `(1 - share) · first + share · second`, in float32."""
    if not 0 <= share <= 1:
        raise ValueError(f"--share is {share}, must be from 0 to 1")
    a, b = load_file(first), load_file(second)
    differing = sorted(name for name in a.keys() | b.keys() if name not in a or name not in b or a[name].shape != b[name].shape)
    if differing:
        raise ValueError(f"{first} and {second} are not of one shape: {differing[0]}")
    save_file({name: (1 - share) * a[name].astype(np.float32) + share * b[name].astype(np.float32) for name in a}, out)


def main() -> None:
    """Reads the command line and writes."""
    parser = argparse.ArgumentParser(prog="rasid_training.average", description=__doc__)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, required=True, help="of the second, from 0 to 1")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        average(options.first, options.second, options.share, options.out)
    except (OSError, ValueError) as problem:
        raise SystemExit(str(problem)) from None


if __name__ == "__main__":
    main()
