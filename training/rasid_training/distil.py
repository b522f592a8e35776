"""A smaller network that learns from a larger: it begins with its layers and learns its answers (Sanh et al. 2019)."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .model import Answers, Network, document_logits

HIDDEN_WEIGHT = 10.0
"""Nats that a cosine distance of 1 counts as. That of the answers is larger at the beginning of a run, this one at the end."""


def student(teacher: Network, kept: list[int]) -> Network:
    """A network of these layers of the teacher, with its heads and word embeddings."""
    layers = teacher.shape.num_hidden_layers
    if not kept or sorted(set(kept)) != kept or not 0 <= kept[0] <= kept[-1] < layers:
        raise ValueError(f"kept_layers is {kept}, must be rising numbers from 0 to {layers - 1}")
    shape = replace(teacher.shape, num_hidden_layers=len(kept))
    network = Network(teacher.words.weight, shape, teacher.topic.out_features)
    place = {f"layers.{old}.": f"layers.{new}." for new, old in enumerate(kept)}
    state = {}
    for name, value in teacher.state_dict().items():
        prefix = ".".join(name.split(".")[:2]) + "."
        if not name.startswith("layers."):
            state[name] = value
        elif prefix in place:
            state[place[prefix] + name.removeprefix(prefix)] = value
    network.load_state_dict(state)
    return network


def loss(said: Answers, taught: Answers, present: Tensor, documents: Tensor, count: int) -> Tensor:
    """How far a network is from its teacher: in tags and topics (nats), and in hidden states (cosine)."""
    tags = F.kl_div(
        F.log_softmax(said.tags[present], -1), F.log_softmax(taught.tags[present], -1), reduction="batchmean", log_target=True
    )
    lengths = present.sum(1)
    own, target = (document_logits(answers.topics, lengths, documents, count) for answers in (said, taught))
    topics = F.binary_cross_entropy_with_logits(own, target.sigmoid()) - entropy(target)
    hidden = 1 - F.cosine_similarity(said.hidden[present], taught.hidden[present], dim=-1).mean()
    return tags + topics + HIDDEN_WEIGHT * hidden


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of yes or no, in nats: what no student can get below."""
    return F.binary_cross_entropy_with_logits(logits, torch.sigmoid(logits))
