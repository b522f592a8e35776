import json
from dataclasses import asdict

import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

torch = pytest.importorskip("torch")

from rasid_training import distil, evaluate, mixture, model, train  # noqa: E402
from rasid_training.__main__ import prepare  # noqa: E402
from rasid_training.base import EMBEDDINGS, Shape  # noqa: E402
from rasid_training.corpora import Document  # noqa: E402
from rasid_training.labels import TAGS  # noqa: E402

CONFIG = {
    "seed": 3,
    "tokens": 4000,
    "warmup": 0.1,
    "decay": 0.5,
    "rate": 2e-3,
    "head_rate": 1e-2,
    "topic_rate": 1e-2,
    "layer_decay": 0.9,
    "weight_decay": 0.01,
    "batch_tokens": 96,
    "average": 0.9,
    "tag_smoothing": 0.02,
    "topic_smoothing": 0.01,
    "topic_weight": 1.0,
    "anchor_weight": 0.1,
    "mask": 0.0,
    "swap": 0.2,
    "recase": 0.0,
    "topic_windows": 2,
    "save_seconds": 0.0,
    "evaluate_seconds": 1e9,
    "evaluate_rows": 4,
}


def small_network(layers=1):
    torch.manual_seed(0)
    words = torch.randn(1000, 32)
    return model.Network(words, Shape(1000, 32, layers, 2, 64, 512))


def corpus():
    found = [Document("en", [("the abc met Def.", [(12, 15, 0)])], True, row=n) for n in range(12)]
    topics = [0] * 17
    topics[0] = 1
    texts = [Document("en", [("guns abc.", [])], topics=topics), Document("en", [("ball def.", [])], topics=topics[::-1])]
    return mixture.Corpus([mixture.Source("a.en", found, 1)], [mixture.Source("b.en", texts * 6, 1)])


def run(folder, tokenizer, **changes):
    folder.mkdir(exist_ok=True)
    made = train.Run(small_network(), tokenizer, corpus(), CONFIG | changes, folder)
    made.train()
    return made


def test_the_loss_falls(tmp_path, tokenizer):
    run(tmp_path / "a", tokenizer, tokens=12000)
    lines = [json.loads(line) for line in (tmp_path / "a/curve.jsonl").read_text("utf-8").splitlines()]
    losses = [line["sentences.entities"] for line in lines if "sentences.entities" in line]
    assert losses[-1] < losses[0] * 0.7


def test_a_run_that_was_cut_off_ends_as_one_that_was_not(tmp_path, tokenizer):
    whole = run(tmp_path / "whole", tokenizer, tokens=2000)

    class Stop(Exception):  # noqa: N818
        pass

    half = train.Run(small_network(), tokenizer, corpus(), CONFIG | {"tokens": 2000}, tmp_path / "half")
    (tmp_path / "half").mkdir()
    update = half.update

    def until_seven(*batches):
        if half.step == 7:
            raise Stop
        return update(*batches)

    half.update = until_seven
    with pytest.raises(Stop):
        half.train()
    again = train.Run(small_network(), tokenizer, corpus(), CONFIG | {"tokens": 2000}, tmp_path / "half")
    again.train()
    assert again.step == whole.step
    for one, other in zip(again.average, whole.average):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_stage_has_rates_of_its_own(tmp_path, tokenizer):
    first = run(tmp_path, tokenizer, tokens=200)
    second = train.Run(small_network(), tokenizer, corpus(), CONFIG | {"seed": 4, "tokens": 400, "rate": 7e-5}, tmp_path)
    second.train()
    assert second.begun == first.step
    assert {group["base"] for group in second.optimizer.param_groups} >= {7e-5}
    assert 2e-3 not in {group["base"] for group in second.optimizer.param_groups}


def test_special_tokens_are_never_masked(tmp_path, tokenizer):
    made = train.Run(small_network(), tokenizer, corpus(), CONFIG, tmp_path)
    batch = train.Batch.of(next(made.batches(0, "sentences")))
    hidden = train.masked(batch, 5.0, 999, made.special, made.generator)
    changed = hidden != batch.ids
    assert changed.any()
    assert not torch.isin(batch.ids[changed], made.special).any()
    with pytest.raises(ValueError, match="neither <mask> nor"):
        train.Run(small_network(), tokenizer, corpus(), CONFIG | {"mask": 0.1}, tmp_path)


def test_a_checkpoint_with_a_vocabulary_of_words_can_be_trained(tmp_path):
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "the",
        "met",
        "guns",
        "ball",
        *"abcdefD.",
        *(f"##{c}" for c in "abcdef"),
    ]
    made = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(tmp_path / "tokenizer.json"))
    network = small_network()
    tensors = model.to_hugging_face(network.state_dict()) | {EMBEDDINGS: network.words.weight.numpy()}
    tensors = {f"bert.{name}": value for name, value in tensors.items() if not name.startswith(("ner.", "topic."))}
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in tensors.items()}
    save_file(old, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(asdict(network.shape) | {"model_type": "bert"}))

    found, tokenizer = prepare(tmp_path, tmp_path, 17)
    assert torch.equal(found.layers[0].qkv.weight, network.layers[0].qkv.weight)
    made = train.Run(found, tokenizer, corpus(), CONFIG | {"mask": 0.3}, tmp_path)
    assert (made.special.tolist(), made.mask) == ([2, 3], 4)
    batch = train.Batch.of(next(made.batches(0, "sentences")))
    assert set(batch.ids[:, 0].tolist()) == {2}
    made.train()
    assert made.tokens >= CONFIG["tokens"]


def test_weights_of_another_shape_are_refused():
    weights = model.to_hugging_face(small_network(layers=1).state_dict())
    with pytest.raises(ValueError, match=r"weights have no 'encoder\.layer\.1"):
        model.from_hugging_face(small_network(layers=2), weights)
    weights["embeddings.LayerNorm.bias"] = weights["embeddings.LayerNorm.bias"][:8]
    with pytest.raises(ValueError, match="another shape"):
        model.from_hugging_face(small_network(layers=1), weights)


def test_outside_may_be_misc_where_misc_is_not_annotated():
    logits = torch.full((1, 1, len(TAGS)), -4.0)
    logits[0, 0, TAGS.index("B-MISC")] = 4.0
    tags = torch.zeros(1, 1, dtype=torch.long)
    one = torch.ones(1)
    unknown = model.entity_loss(logits, tags, torch.tensor([False]), one, 0.0)
    known = model.entity_loss(logits, tags, torch.tensor([True]), one, 0.0)
    assert unknown < 0.01
    assert known > 5


def test_the_embedding_is_as_near_to_itself_as_can_be(tokenizer):
    documents = [d for source in corpus().entities for d in source.documents]
    first, second = small_network(), small_network()
    assert evaluate.embedding_cosine(first, second, tokenizer, documents) == pytest.approx(1.0, abs=1e-5)
    with torch.no_grad():
        second.norm.weight.neg_()
    assert evaluate.embedding_cosine(first, second, tokenizer, documents) < 0.9


def test_unknown_topics_cost_nothing():
    logits = torch.tensor([[5.0] * 17])
    targets = torch.full((1, 17), -1)
    targets[0, 0] = 1
    assert model.topic_loss(logits, targets, torch.ones(1), 0.0) < 0.01


def test_weights_survive_the_way_to_the_bundle_and_back():
    first, second = small_network(), small_network()
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(0.1)
    model.from_hugging_face(second, model.to_hugging_face(first.state_dict()))
    ids = torch.tensor([[0, 5, 9, 2]])
    present = torch.ones_like(ids, dtype=torch.bool)
    second.words.weight.data = first.words.weight.data
    assert torch.allclose(first(ids, present)[0], second(ids, present)[0], atol=1e-6)


def test_an_added_topic_is_a_row_more():
    old = small_network()
    new = model.Network(old.words.weight, old.shape, 18)
    begun = new.topic.weight[17].clone()
    model.from_hugging_face(new, model.to_hugging_face(old.state_dict()))
    assert torch.equal(new.topic.weight[:17], old.topic.weight)
    assert torch.equal(new.topic.weight[17], begun)
    assert model.frozen_copy(new).topic.out_features == distil.student(new, [0]).topic.out_features == 18


def test_a_student_begins_with_layers_of_its_teacher_and_comes_near_its_answers(tmp_path, tokenizer):
    teacher = small_network(layers=3).requires_grad_(False)
    with torch.no_grad():
        teacher.ner.weight.normal_(std=0.5)
    student = distil.student(teacher, [0, 2])
    assert torch.equal(student.layers[1].up.weight, teacher.layers[2].up.weight)
    assert torch.equal(student.ner.weight, teacher.ner.weight)
    made = train.Run(student, tokenizer, corpus(), CONFIG | {"taught_weight": 50.0}, tmp_path, teacher)
    batch = train.Batch.of(next(made.batches(0, "sentences")))

    def distance():
        with torch.no_grad():
            answers = [network(batch.ids, batch.present) for network in (student, teacher)]
        return distil.loss(*answers, batch.present, batch.documents, len(batch.topics)).item()

    before = distance()
    made.train()
    assert distance() < 0.5 * before


def test_the_distance_from_a_teacher_has_three_parts_and_is_none_from_itself():
    network = small_network().requires_grad_(False)
    ids, present = torch.tensor([[1, 5, 9, 0]]), torch.tensor([[True, True, True, False]])
    own = network(ids, present)
    apart = lambda other: distil.loss(other, own, present, torch.tensor([0]), 1).item()  # noqa: E731
    assert apart(own) == pytest.approx(0, abs=1e-6)
    for part in ("tags", "topics", "hidden"):
        value = getattr(own, part).clone()
        value[0, 0] += 1 if part == "topics" else torch.arange(value.shape[-1])
        assert apart(own._replace(**{part: value})) > 1e-3, part
    padding = own.hidden.clone()
    padding[0, 3] += 5
    assert apart(own._replace(hidden=padding)) == pytest.approx(0, abs=1e-6)


def test_layers_that_a_teacher_has_not_are_refused():
    for kept in ([], [0, 3], [1, 0], [-1, 1]):
        with pytest.raises(ValueError, match="kept_layers is"):
            distil.student(small_network(layers=3), kept)
