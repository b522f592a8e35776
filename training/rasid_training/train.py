"""The training run: seeded, resumable, with its curve in a file."""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from . import distil, evaluate, mixture, model
from .model import Network
from .windows import IGNORE, Sample, frame, pad


@dataclass
class Batch:
    """Samples as tensors. Rows are windows; `documents` says whose."""

    ids: Tensor
    tags: Tensor
    present: Tensor
    documents: Tensor
    topics: Tensor
    has_misc: Tensor
    weight: Tensor

    @classmethod
    def of(cls, samples: list[Sample]) -> "Batch":
        """Pads the windows of the samples."""
        windows = [window for sample in samples for window in sample.windows]
        owners = [index for index, sample in enumerate(samples) for _ in sample.windows]
        ids, tags = pad(windows)
        lengths = torch.tensor([len(window.ids) for window in windows])
        return cls(
            torch.from_numpy(ids),
            torch.from_numpy(tags),
            torch.arange(ids.shape[1])[None, :] < lengths[:, None],
            torch.tensor(owners),
            torch.tensor([sample.topics for sample in samples]),
            torch.tensor([samples[owner].has_misc for owner in owners]),
            torch.tensor([sample.weight for sample in samples]),
        )

    @property
    def tokens(self) -> int:
        """Tokens that are no padding."""
        return int(self.present.sum())


def masked(batch: Batch, rate: float, mask: int, special: Tensor, generator: torch.Generator) -> Tensor:
    """Ids with some tokens, but no special ones, replaced by `mask`: the context must tell, not the name alone."""
    if rate <= 0:
        return batch.ids
    share = rate * torch.rand(batch.ids.shape[0], 1, generator=generator)
    hit = (torch.rand(batch.ids.shape, generator=generator) < share) & ~torch.isin(batch.ids, special)
    return batch.ids.masked_fill(hit & batch.present, mask)


def parameter_groups(network: Network, config: mixture.Config) -> list[dict[str, Any]]:
    """Lower layers learn more slowly (Howard and Ruder 2018); biases and norms do not decay."""
    depth = len(network.layers)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.startswith(("ner.", "topic.")):
            rate = config["topic_rate" if name.startswith("topic.") else "head_rate"]
        else:
            layer = int(name.split(".")[1]) if name.startswith("layers.") else -1
            rate = config["rate"] * config["layer_decay"] ** (depth - 1 - layer)
        decay = config["weight_decay"] if parameter.ndim > 1 else 0.0
        group = groups.setdefault((rate, decay), {"params": [], "lr": rate, "base": rate, "weight_decay": decay})
        group["params"].append(parameter)
    return list(groups.values())


def schedule(done: float, config: mixture.Config) -> float:
    """Part of the learning rate after a part of the run: warm-up, plateau, and a linear way down to a twentieth."""
    warm, decay = config["warmup"], config["decay"]
    if done < warm:
        return done / warm
    if done < 1 - decay:
        return 1.0
    return max(0.05, (1 - done) / decay)


class Run:
    """A run in its folder: `checkpoint.pt`, `curve.jsonl`, and at the end `weights.safetensors`."""

    def __init__(
        self,
        network: Network,
        tokenizer: Tokenizer,
        corpus: mixture.Corpus,
        config: mixture.Config,
        folder: Path,
        teacher: Network | None = None,
        base: Network | None = None,
    ) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.special = torch.tensor(frame(tokenizer))
        masks = [tokenizer.token_to_id(token) for token in ("<mask>", "[MASK]")]
        self.mask = next((token for token in masks if token is not None), -1)
        if self.mask < 0 < config["mask"]:
            raise ValueError(f"mask is {config['mask']}, but the tokenizer has neither <mask> nor [MASK]")
        self.corpus = corpus
        self.config = config
        self.folder = folder
        self.trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameter_groups(network, config), betas=(0.9, 0.98), fused=True)
        self.average = [p.detach().clone() for p in self.trained]
        self.teacher = teacher
        self.base = base or model.frozen_copy(network)
        """What the pooled vector shall stay near."""
        self.anchor = teacher or self.base
        self.generator = torch.Generator().manual_seed(config["seed"])
        self.step = self.tokens = 0
        self.begun = 0
        """Step at which this seed took over."""

    def batches(self, offset: int, which: str) -> Iterator[list[Sample]]:
        """Batches of one task, pass after pass; each pass has a seed of its own."""
        number = 0
        while True:
            stream = mixture.Stream(self.corpus, self.tokenizer, self.config, self.config["seed"] * 1000 + number * 2 + offset)
            samples = stream.sentences() if which == "sentences" else stream.texts()
            yield from stream.batches(samples, self.config["batch_tokens"])
            number += 1

    def train(self) -> None:
        """Goes on from the checkpoint, if there is one, to the end; reads past the batches that were had."""
        sentences = self.batches(0, "sentences")
        texts = self.batches(1, "texts")
        behind = self.resume()
        for _ in range(behind):
            next(sentences)
            next(texts)
        started, begun, first = time.monotonic(), self.tokens, self.step
        saved = evaluated = time.monotonic()
        sums: dict[str, float] = {}
        while self.tokens < self.config["tokens"]:
            losses = self.update(Batch.of(next(sentences)), Batch.of(next(texts)))
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) * 0.95 + value * 0.05
            if self.step % 20 == 0:
                scale = 1 - 0.95 ** min(self.step - first, 1000)
                speed = (self.tokens - begun) / (time.monotonic() - started)
                curve = {name: round(value / scale, 4) for name, value in sums.items()}
                self.note({"step": self.step, "tokens": self.tokens, "tokens_per_second": round(speed), **curve})
            if time.monotonic() - saved > self.config["save_seconds"]:
                self.save()
                saved = time.monotonic()
            if time.monotonic() - evaluated > self.config["evaluate_seconds"]:
                self.evaluate()
                evaluated = time.monotonic()
        self.save()
        self.evaluate()

    def update(self, sentences: Batch, texts: Batch) -> dict[str, float]:
        """One step over a batch of each task."""
        config = self.config
        rate = schedule(self.tokens / config["tokens"], config)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * rate
        losses: dict[str, float] = {}
        for name, batch in (("sentences", sentences), ("texts", texts)):
            ids = masked(batch, config["mask"], self.mask, self.special, self.generator)
            with torch.autocast("cpu", torch.bfloat16):
                said = self.network(ids, batch.present)
            weight = batch.weight[batch.documents]
            parts = {}
            if (batch.tags != IGNORE).any():
                parts["entities"] = model.entity_loss(said.tags, batch.tags, batch.has_misc, weight, config["tag_smoothing"])
            if (batch.topics >= 0).any():
                lengths = batch.present.sum(1)
                whole = model.document_logits(said.topics, lengths, batch.documents, len(batch.topics))
                loss = model.topic_loss(whole, batch.topics, batch.weight, config["topic_smoothing"])
                parts["topics"] = loss * config["topic_weight"]
            if self.teacher or self.step % 4 == 0:
                with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                    base = self.anchor(batch.ids, batch.present)
                parts["anchor"] = (1 - F.cosine_similarity(said.pooled, base.pooled, dim=-1)).mean() * config["anchor_weight"]
                if self.teacher:
                    taught = distil.loss(said, base, batch.present, batch.documents, len(batch.topics))
                    parts["taught"] = taught * config["taught_weight"]
            torch.stack(list(parts.values())).sum().backward()
            losses |= {f"{name}.{part}": value.item() for part, value in parts.items()}
            self.tokens += batch.tokens
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        # Polyak averaging; short at first so that the beginning is forgotten.
        keep = min(config["average"], (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.trained], 1 - keep)
        return losses

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights, by name."""
        names = [name for name, p in self.network.named_parameters() if p.requires_grad]
        return dict(zip(names, self.average, strict=True))

    def evaluate(self) -> None:
        """Scores of the averaged weights on held-out text, for the curve; `rasid eval` measures what counts."""
        kept = [p.detach().clone() for p in self.trained]
        torch._foreach_copy_([p.data for p in self.trained], self.average)
        scores = evaluate.quick(self.network, self.base, self.tokenizer, self.corpus, self.config)
        torch._foreach_copy_([p.data for p in self.trained], kept)
        self.note({"step": self.step, "tokens": self.tokens, "dev": scores})

    def note(self, entry: dict[str, Any]) -> None:
        """Adds a line to the curve."""
        if any(isinstance(v, float) and not math.isfinite(v) for v in entry.values()):
            raise FloatingPointError(f"the loss is no number: {entry}")
        with open(self.folder / "curve.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        print(json.dumps(entry), flush=True)

    def save(self) -> None:
        """Writes a checkpoint beside the last, then takes its place, so that a kill leaves one of the two whole."""
        state = {
            "network": [p.detach() for p in self.trained],
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "step": self.step,
            "tokens": self.tokens,
            "seed": self.config["seed"],
            "begun": self.begun,
        }
        new = self.folder / "checkpoint.new"
        torch.save(state, new)
        new.replace(self.folder / "checkpoint.pt")

    def resume(self) -> int:
        """Takes up the folder's checkpoint; returns how many steps it has done."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        torch._foreach_copy_([p.data for p in self.trained], state["network"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        # Rates are the configuration's, not those of the stage before.
        for group, own in zip(self.optimizer.param_groups, parameter_groups(self.network, self.config), strict=True):
            group |= {name: own[name] for name in ("base", "weight_decay")}
        self.generator.set_state(state["generator"])
        self.step, self.tokens = state["step"], state["tokens"]
        # Another seed begins a stage of its own, perhaps with other data.
        self.begun = self.step if state["seed"] != self.config["seed"] else state["begun"]
        return self.step - self.begun
