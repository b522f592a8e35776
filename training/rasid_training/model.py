"""The network of `src/encoder` and `src/heads`, in PyTorch: a BERT encoder, a linear head over tokens, one over windows."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .base import Shape, Tensors
from .labels import OUTSIDE_OR_MISC, TAGS, TOPICS


class Layer(nn.Module):
    """One post-norm transformer layer; query, key and value in one product."""

    def __init__(self, hidden: int, heads: int, feed_forward: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)
        self.attention_norm = nn.LayerNorm(hidden, epsilon)
        self.up = nn.Linear(hidden, feed_forward)
        self.down = nn.Linear(feed_forward, hidden)
        self.norm = nn.LayerNorm(hidden, epsilon)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """`x` [rows, tokens, hidden]; `bias` [rows, 1, 1, tokens], 0 or very negative where a token is padding."""
        rows, tokens, hidden = x.shape
        query, key, value = self.qkv(x).view(rows, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # Plain products: on CPUs in bfloat16 they are far faster than the fused attention, above all backwards.
        scores = torch.matmul(query, key.transpose(-1, -2)) * (hidden // self.heads) ** -0.5
        weights = (scores + bias.to(scores.dtype)).softmax(-1)
        context = torch.matmul(weights, value).transpose(1, 2).reshape(rows, tokens, hidden)
        x = self.attention_norm(x + self.out(context))
        return self.norm(x + self.down(F.gelu(self.up(x))))


class Answers(NamedTuple):
    """What a network says of windows."""

    tags: Tensor
    """Logits [rows, tokens, tags]."""
    topics: Tensor
    """Logits [rows, topics]."""
    pooled: Tensor
    """Mean hidden states [rows, hidden]."""
    hidden: Tensor
    """Last hidden states [rows, tokens, hidden]."""


class Network(nn.Module):
    """Encoder and heads. Word embeddings are given as they are on disk and never trained."""

    def __init__(self, words: Tensor, shape: Shape, topics: int = len(TOPICS)) -> None:
        super().__init__()
        self.shape = shape
        hidden, epsilon = shape.hidden_size, shape.layer_norm_eps
        self.words = nn.Embedding.from_pretrained(words, freeze=True)
        self.positions = nn.Embedding(shape.max_position_embeddings, hidden)
        self.types = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden, epsilon)
        self.layers = nn.ModuleList(
            Layer(hidden, shape.num_attention_heads, shape.intermediate_size, epsilon) for _ in range(shape.num_hidden_layers)
        )
        self.ner = nn.Linear(hidden, len(TAGS))
        self.topic = nn.Linear(hidden, topics)
        for head in (self.ner, self.topic):
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)

    def encode(self, ids: Tensor, present: Tensor) -> Tensor:
        """Last hidden states [rows, tokens, hidden]; `present` is false where a token is padding."""
        x = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types.weight[0]
        x = self.norm(x)
        bias = torch.zeros(ids.shape, dtype=torch.float32).masked_fill(~present, -1e4)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        return x

    def forward(self, ids: Tensor, present: Tensor) -> Answers:
        """What there is to say of windows, in float32."""
        x = self.encode(ids, present).float()
        pooled = pool(x, present)
        with torch.autocast("cpu", enabled=False):
            return Answers(self.ner(x), self.topic(pooled), pooled, x)


def pool(x: Tensor, present: Tensor) -> Tensor:
    """Mean over a window's tokens, special tokens included."""
    weight = present[..., None].float()
    return (x * weight).sum(1) / weight.sum(1)


def entity_loss(logits: Tensor, tags: Tensor, has_misc: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    """Weighted mean cross-entropy over labelled tokens.

    Where MISC was not annotated, "O" says "not PER, ORG or LOC": O's probability and MISC's are added up (marginal likelihood).
    """
    labelled = tags >= 0
    log = F.log_softmax(logits[labelled], -1)
    target = tags[labelled]
    own = log.gather(1, target[:, None])[:, 0]
    marginal = log[:, list(OUTSIDE_OR_MISC)].logsumexp(-1)
    unknown = (~has_misc)[:, None].expand_as(tags)[labelled] & (target == 0)
    loss = -torch.where(unknown, marginal, own)
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * torch.where(unknown, marginal, log.mean(-1))
    weights = weight[:, None].expand(tags.shape)[labelled]
    return (loss * weights).sum() / weights.sum().clamp(min=1.0)


def topic_loss(logits: Tensor, targets: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    """Weighted mean binary cross-entropy over what is known: `targets` [documents, topics], -1 where it is not."""
    known = targets >= 0
    soft = targets.clamp(min=0).float() * (1 - 2 * smoothing) + smoothing
    loss = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    weights = known.float() * weight[:, None]
    return (loss * weights).sum() / weights.sum().clamp(min=1.0)


def document_logits(logits: Tensor, lengths: Tensor, documents: Tensor, count: int) -> Tensor:
    """Windows' topic logits to documents': the mean weighted by tokens, as serving decides them."""
    weight = lengths.float()[:, None]
    total = torch.zeros(count, logits.shape[1]).index_add(0, documents, logits * weight)
    return total / torch.zeros(count, 1).index_add(0, documents, weight)


NAMES = {
    "attention_norm": "attention.output.LayerNorm",
    "out": "attention.output.dense",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}


def from_hugging_face(network: Network, tensors: Tensors) -> None:
    """Fills encoder (and heads, if they are there) from tensors under the names of Hugging Face's BertModel.

    A topic head that was trained for fewer topics fills the first rows.
    """
    try:
        state = from_names(network, tensors)
        missing, unexpected = network.load_state_dict(state, strict=False)
    except KeyError as name:
        raise ValueError(f"weights have no {name}") from None
    except RuntimeError as problem:
        raise ValueError(f"weights are of another shape: {problem}") from None
    if unexpected or any(not name.startswith(("words.", "ner.", "topic.")) for name in missing):
        raise ValueError(f"weights do not fit: missing {missing}, unexpected {unexpected}")


def from_names(network: Network, tensors: Tensors) -> dict[str, Tensor]:
    """Tensors under the names of Hugging Face's BertModel as a network's state."""
    take = {name: torch.from_numpy(value.astype(np.float32)) for name, value in tensors.items()}
    state = {
        "positions.weight": take["embeddings.position_embeddings.weight"],
        "types.weight": take["embeddings.token_type_embeddings.weight"],
        "norm.weight": take["embeddings.LayerNorm.weight"],
        "norm.bias": take["embeddings.LayerNorm.bias"],
    }
    for index in range(len(network.layers)):
        key = f"encoder.layer.{index}"
        for part in ("weight", "bias"):
            qkv = [take[f"{key}.attention.self.{name}.{part}"] for name in ("query", "key", "value")]
            state[f"layers.{index}.qkv.{part}"] = torch.cat(qkv)
            for ours, theirs in NAMES.items():
                state[f"layers.{index}.{ours}.{part}"] = take[f"{key}.{theirs}.{part}"]
    for head in ("ner", "topic"):
        for part in ("weight", "bias"):
            name = f"{head}.{part}"
            if name in take:
                own = network.state_dict()[name]
                state[name] = torch.cat([take[name], own[len(take[name]) :]]) if head == "topic" else take[name]
    return state


def to_hugging_face(state: dict[str, Tensor]) -> Tensors:
    """The tensors that a bundle's encoder file holds."""
    found: dict[str, Tensor] = {
        "embeddings.position_embeddings.weight": state["positions.weight"],
        "embeddings.token_type_embeddings.weight": state["types.weight"],
        "embeddings.LayerNorm.weight": state["norm.weight"],
        "embeddings.LayerNorm.bias": state["norm.bias"],
    }
    layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    for index in range(layers):
        key = f"encoder.layer.{index}"
        for part in ("weight", "bias"):
            split = state[f"layers.{index}.qkv.{part}"].chunk(3)
            for name, tensor in zip(("query", "key", "value"), split, strict=True):
                found[f"{key}.attention.self.{name}.{part}"] = tensor
            for ours, theirs in NAMES.items():
                found[f"{key}.{theirs}.{part}"] = state[f"layers.{index}.{ours}.{part}"]
    for head in ("ner", "topic"):
        for part in ("weight", "bias"):
            found[f"{head}.{part}"] = state[f"{head}.{part}"]
    return {name: tensor.detach().float().contiguous().numpy() for name, tensor in found.items()}


def frozen_copy(network: Network) -> Network:
    """A copy that is not trained and shares the word embeddings: what the pooled vector must stay close to."""
    copy = Network(network.words.weight, network.shape, network.topic.out_features)
    copy.load_state_dict(network.state_dict())
    return copy.requires_grad_(False).eval()
