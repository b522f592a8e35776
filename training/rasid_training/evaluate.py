"""Quick scores for the curve of a run, over few held-out texts. What ships is measured by `rasid eval`."""

import random
from collections.abc import Sequence
from typing import Any

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

from . import mixture
from .corpora import Document
from .labels import TAGS, TOPICS
from .model import Network, document_logits
from .windows import IGNORE, Sample, cut, pad


def spans(tags: list[int]) -> set[tuple[int, int, int]]:
    """Entities of a sequence of tags as (first, last, type)."""
    found = set()
    start = kind = -1
    for index, tag in enumerate([*tags, 0]):
        inside = tag != 0 and tag % 2 == 0 and kind == (tag - 1) // 2
        if kind >= 0 and not inside:
            found.add((start, index - 1, kind))
            kind = -1
        if tag != 0 and kind < 0:
            start, kind = index, (tag - 1) // 2
    return found


@torch.no_grad()
def read(network: Network, samples: list[Sample], budget: int = 8192) -> tuple[list[list[torch.Tensor]], torch.Tensor]:
    """Tag logits window by window for each sample, and topic logits [samples, topics]."""
    order = sorted(range(len(samples)), key=lambda i: max(len(w.ids) for w in samples[i].windows))
    tags: list[list[torch.Tensor]] = [[] for _ in samples]
    topics = torch.zeros(len(samples), network.topic.out_features)
    at = 0
    while at < len(order):
        batch: list[int] = []
        rows = 0
        while at < len(order):
            longest = max(len(w.ids) for w in samples[order[at]].windows)
            if batch and (rows + len(samples[order[at]].windows)) * longest > budget:
                break
            rows += len(samples[order[at]].windows)
            batch.append(order[at])
            at += 1
        windows = [w for i in batch for w in samples[i].windows]
        owners = torch.tensor([n for n, i in enumerate(batch) for _ in samples[i].windows])
        ids, _ = pad(windows)
        lengths = torch.tensor([len(w.ids) for w in windows])
        present = torch.arange(ids.shape[1])[None, :] < lengths[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            answers = network(torch.from_numpy(ids), present)
        topics[batch] = document_logits(answers.topics, lengths, owners, len(batch))
        for row, owner in enumerate(owners.tolist()):
            tags[batch[owner]].append(answers.tags[row, : lengths[row]])
    return tags, topics


def entity_f1(network: Network, tokenizer: Tokenizer, documents: list[Document]) -> float:
    """Micro F1 of spans over words' first tokens, each window by itself."""
    samples = [Sample(cut(tokenizer, d, 126, None), d.topics, d.has_misc, 1.0) for d in documents]
    samples = [sample for sample in samples if sample.windows]
    right = said = true = 0
    for sample, logits in zip(samples, read(network, samples)[0], strict=True):
        for window, scores in zip(sample.windows, logits, strict=True):
            places = [i for i, tag in enumerate(window.tags) if tag != IGNORE]
            if not sample.has_misc:
                scores = scores.clone()
                scores[:, TAGS.index("B-MISC") :] = -1e4
            predicted = spans([int(scores[i].argmax()) for i in places])
            gold = spans([window.tags[i] for i in places])
            right += len(predicted & gold)
            said += len(predicted)
            true += len(gold)
    return 2 * right / max(1, said + true)


def topic_f1(network: Network, tokenizer: Tokenizer, documents: list[Document], topics: Sequence[str]) -> dict[str, float]:
    """F1 at 0.5 of each topic over whole articles, and their mean."""
    samples = [Sample(cut(tokenizer, d, 126, None), d.topics, True, 1.0) for d in documents]
    _, logits = read(network, samples)
    targets = torch.tensor([sample.topics for sample in samples])
    gold = targets == 1
    said = (logits > 0) & (targets >= 0)
    scores = {}
    for index, topic in enumerate(topics):
        right = int((gold[:, index] & said[:, index]).sum())
        scores[topic] = 2 * right / max(1, int(gold[:, index].sum() + said[:, index].sum()))
    return {"macro": sum(scores.values()) / len(scores), **scores}


@torch.no_grad()
def embedding_cosine(network: Network, base: Network, tokenizer: Tokenizer, documents: list[Document]) -> float:
    """Mean cosine of the pooled vectors of two networks over the windows of documents."""
    total = count = 0.0
    for document in documents:
        windows = cut(tokenizer, document, 126, None)
        ids, _ = pad(windows)
        present = torch.arange(ids.shape[1])[None, :] < torch.tensor([len(window.ids) for window in windows])[:, None]
        own, other = (each(torch.from_numpy(ids), present)[2] for each in (network, base))
        total += float(F.cosine_similarity(own, other, dim=-1).sum())
        count += len(ids)
    return total / max(1.0, count)


def quick(
    network: Network, base: Network, tokenizer: Tokenizer, corpus: mixture.Corpus, config: mixture.Config
) -> dict[str, Any]:
    """Entity F1 by language over held-out sentences and articles, topic F1 over held-out articles, nearness to the base."""
    rng = random.Random(config["seed"])
    scores: dict[str, Any] = {}
    for name, documents in corpus.dev.items():
        few = rng.sample(documents, min(len(documents), config["evaluate_rows"]))
        scores[name] = round(entity_f1(network, tokenizer, few), 3)
    if corpus.held_out:
        articles = rng.sample(corpus.held_out, min(len(corpus.held_out), config["evaluate_rows"]))
        scores["articles"] = round(entity_f1(network, tokenizer, articles), 3)
        arabic = [d for d in articles if d.lang == "ar"]
        if arabic:
            scores["articles.ar"] = round(entity_f1(network, tokenizer, arabic), 3)
        scores["cosine"] = round(embedding_cosine(network, base, tokenizer, articles), 3)
        topics = (*TOPICS, *config["added_topics"])
        scores["topics"] = {k: round(v, 2) for k, v in topic_f1(network, tokenizer, articles, topics).items()}
    return scores
