"""Writes seqeval.json and statistics.json: figures of seqeval, scikit-learn and scipy on random input.

    pip install seqeval==1.2.2 scikit-learn==1.9.1 scipy==1.17.1
    python tests/data/reference_scores.py
"""

import json
import random
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap
from seqeval.metrics import classification_report
from seqeval.scheme import IOB2
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    f1_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)

HERE = Path(__file__).parent
BINS = 15


def write(name, cases):
    lines = ",\n".join("  " + json.dumps(case) for case in cases)
    (HERE / name).write_text(f"[\n{lines}\n]\n")


def tags(rng, length, stay):
    """Random tags, of which some are no valid BIO: an I- without its B-, or of another type than what goes before."""
    sequence = []
    for _ in range(length):
        last = sequence[-1][2:] if sequence and sequence[-1] != "O" else ""
        if last and rng.random() < stay:
            sequence.append("I-" + last)
        else:
            sequence.append(rng.choice(["O", "O", "O"] + [b + t for b in ("B-", "I-") for t in ("PER", "ORG", "LOC", "MISC")]))
    return sequence


def mixed(rng, gold):
    """Like gold, with mistakes."""
    return [rng.choice(tags(rng, 1, 0)) if rng.random() < 0.25 else tag for tag in gold]


def spans():
    rng = random.Random(7)
    cases = []
    for _ in range(40):
        gold = [["B-PER"], *(tags(rng, rng.randint(1, 12), 0.5) for _ in range(rng.randint(1, 5)))]
        predicted = [mixed(rng, sentence) for sentence in gold]
        report = classification_report(gold, predicted, mode="strict", scheme=IOB2, output_dict=True, zero_division=0)
        scores = {
            name: [row["precision"], row["recall"], row["f1-score"], int(row["support"])]
            for name, row in report.items()
            if name != "weighted avg"
        }
        cases.append({"gold": gold, "predicted": predicted, "scores": scores})
    return cases


def calibration(scores, labels):
    share, probability = calibration_curve(labels, scores, n_bins=BINS)
    counts = np.bincount(np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], scores), minlength=BINS)
    return float(np.sum(np.abs(share - probability) * counts[counts > 0]) / len(scores))


def ranked():
    rng = np.random.default_rng(7)
    cases = []
    for size in [1, 2, 5, 20, 60, 120]:
        for decimals in (1, 4):
            scores = np.round(rng.random(size), decimals).astype(np.float32).astype(float)
            labels = (rng.random(size) < scores).astype(int)
            labels[rng.integers(size)] = 1
            precision, recall, _ = precision_recall_curve(labels, scores)
            f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
            cases.append(
                {
                    "scores": scores.tolist(),
                    "labels": labels.tolist(),
                    "average_precision": float(average_precision_score(labels, scores)),
                    "best_f1": float(f1.max()),
                    "brier": float(brier_score_loss(labels, scores)),
                    "ece": calibration(scores, labels),
                }
            )
    return cases


def multi_label():
    rng = np.random.default_rng(8)
    cases = []
    for rows in (3, 10, 40):
        gold = (rng.random((rows, 5)) < 0.3).astype(int)
        gold[0, 0] = 1
        probabilities = np.round(np.clip(gold * 0.3 + rng.random((rows, 5)) * 0.7, 0, 1), 5)
        assigned = (probabilities >= 0.5).astype(int)
        seen = [topic for topic in range(5) if gold[:, topic].any() or assigned[:, topic].any()]
        labelled = gold.any(axis=1)
        first = probabilities.argmax(axis=1)
        average = {"labels": seen, "zero_division": 0}
        cases.append(
            {
                "gold": gold.tolist(),
                "probabilities": probabilities.tolist(),
                "macro_f1": float(f1_score(gold, assigned, average="macro", **average)),
                "micro_f1": float(f1_score(gold, assigned, average="micro", **average)),
                "micro_precision": float(precision_score(gold, assigned, average="micro", **average)),
                "micro_recall": float(recall_score(gold, assigned, average="micro", **average)),
                "top1": float(gold[np.arange(rows), first][labelled].mean()),
            }
        )
    # One label each: the usual figures.
    gold = rng.integers(0, 4, 50)
    probabilities = np.round(rng.random((50, 5)), 5)
    probabilities[np.arange(50), gold] += 0.2
    first = probabilities.argmax(axis=1)
    cases.append(
        {
            "gold": np.eye(5, dtype=int)[gold].tolist(),
            "probabilities": probabilities.tolist(),
            "top1": float((first == gold).mean()),
            "top1_macro_f1": float(f1_score(gold, first, average="macro", zero_division=0)),
        }
    )
    return cases


def resampled():
    rng = np.random.default_rng(9)
    values = (rng.random(200) < 0.7).astype(float)
    interval = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=rng).confidence_interval
    return {"values": values.tolist(), "interval": [float(interval.low), float(interval.high)]}


write("seqeval.json", spans())
statistics = {"ranked": ranked(), "topics": multi_label(), "bootstrap": resampled()}
(HERE / "statistics.json").write_text(json.dumps(statistics) + "\n")
