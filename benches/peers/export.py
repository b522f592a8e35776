"""Makes of a bundle what the peers read: float32 weights, and two ONNX graphs of them.

`model.onnx` is what PyTorch's exporter writes, `model-fused.onnx` what onnxruntime.transformers' optimizer makes of it (fused
attention, GELU and norms).
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from transformers import BertConfig, BertModel

bundle, out = map(Path, sys.argv[1:])
if (out / "model-fused.onnx").exists():
    sys.exit()
out.mkdir(parents=True, exist_ok=True)

shape = json.loads((bundle / "manifest.json").read_text())["encoder"]
weights = {name: tensor.astype(np.float32) for name, tensor in load_file(bundle / "encoder.safetensors").items()}
table = gguf.GGUFReader(bundle / "embeddings.gguf").tensors[0]
weights[table.name] = gguf.dequantize(table.data, table.tensor_type).astype(np.float32)
weights = {name: tensor for name, tensor in weights.items() if name.startswith(("embeddings.", "encoder."))}
save_file(weights, out / "model.safetensors")

config = BertConfig(**shape, type_vocab_size=2, hidden_act="gelu", attn_implementation="sdpa")
(out / "config.json").write_text(config.to_json_string())
model = BertModel(config, add_pooling_layer=False).eval()
missing, unexpected = model.load_state_dict({name: torch.from_numpy(t) for name, t in weights.items()}, strict=False)
assert not unexpected and all("position_ids" in name for name in missing), (missing, unexpected)


class Hidden(torch.nn.Module):
    """Last hidden states alone."""

    def __init__(self):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


model.config._attn_implementation = "eager"
example = (torch.ones(2, 16, dtype=torch.int64), torch.ones(2, 16, dtype=torch.int64))
axes = {0: "batch", 1: "length"}
with torch.inference_mode():
    torch.onnx.export(
        Hidden(),
        example,
        out / "model.onnx",
        input_names=["input_ids", "attention_mask"],
        output_names=["hidden"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "hidden": axes},
        opset_version=17,
        dynamo=False,
    )

from onnxruntime.transformers import optimizer  # noqa: E402

heads, width = shape["num_attention_heads"], shape["hidden_size"]
fused = optimizer.optimize_model(str(out / "model.onnx"), "bert", num_heads=heads, hidden_size=width, opt_level=0)
print("fused:", fused.get_fused_operator_statistics(), file=sys.stderr)
fused.save_model_to_file(str(out / "model-fused.onnx"))
