import numpy as np

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
