"""Times one Python engine as `rasid bench encoder --json` times ours."""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

# Sequences of a padded batch of documents of mixed length.
PADDED = 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", choices=["onnx", "onnx-fused", "torch"])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--lengths", default="")
    parser.add_argument("--batches", default="")
    parser.add_argument("--sequences", type=Path)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    forward = torch_model(args) if args.engine == "torch" else onnx_model(args)
    if args.sequences:
        # Sorted, so that as little as possible is padding.
        lengths = sorted(json.loads(args.sequences.read_text()))
        batches = [batch(lengths[start : start + PADDED]) for start in range(0, len(lengths), PADDED)]
        seconds = median(lambda: [forward(*inputs) for inputs in batches], args)
        print(json.dumps({"sequences": len(lengths), "tokens": sum(lengths), "tokens_per_second": sum(lengths) / seconds}))
        return
    points = []
    for count in map(int, args.batches.split(",")):
        for length in map(int, args.lengths.split(",")):
            inputs = batch([length] * count)
            seconds = median(lambda: forward(*inputs), args)
            points.append({"batch": count, "length": length, "tokens_per_second": count * length / seconds})
    print(json.dumps(points))


def batch(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and mask of sequences padded to the longest."""
    shape = (len(lengths), max(lengths))
    ids = (np.arange(shape[1]) * 7919 + np.arange(shape[0])[:, None] * 104_729) % 250_000
    return ids.astype(np.int64), (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int64)


def median(work, args: argparse.Namespace) -> float:
    """Of `runs` runs or as many as fit into `seconds`, after two that do not count, unless one is all."""
    for _ in range(2 if args.runs > 1 else 0):
        work()
    times, started = [], time.perf_counter()
    while len(times) < args.runs or time.perf_counter() - started < args.seconds:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def onnx_model(args):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    name = "model.onnx" if args.engine == "onnx" else "model-fused.onnx"
    session = onnxruntime.InferenceSession(args.model / name, options, providers=["CPUExecutionProvider"])
    return lambda ids, mask: session.run(None, {"input_ids": ids, "attention_mask": mask})


def torch_model(args):
    import torch
    from transformers import BertModel

    torch.set_num_threads(args.threads)
    model = BertModel.from_pretrained(args.model, add_pooling_layer=False, attn_implementation="sdpa").eval()

    @torch.inference_mode()
    def forward(ids, mask):
        return model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).last_hidden_state

    return forward


if __name__ == "__main__":
    main()
