"""Writes golden.json: hidden states and logits of the shipped model by Hugging Face's BertModel, in float32, on the stored weights.

    pip install torch transformers==5.24.0 gguf==0.19.0 safetensors tokenizers
    python tests/data/reference_activations.py
"""

import json
from pathlib import Path

import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

HERE = Path(__file__).parent
BUNDLE = HERE / "../../models/default"
TEXTS = (
    "أعلن الأمين العام لوزارة البيشمركة جبار ياور تفاصيل الاجتماع الأمني في بغداد.",
    "Angela Merkel met Emmanuel Macron in Berlin on Tuesday to discuss the war.",
    "東京で国連の会議が開かれた。",
    "Le président a signé la loi 🇫🇷 à l’Élysée, selon l’AFP.",
)


def main():
    shape = json.loads((BUNDLE / "manifest.json").read_text())["encoder"]
    weights = {name: tensor.float() for name, tensor in load_file(BUNDLE / "encoder.safetensors").items()}
    (words,) = GGUFReader(BUNDLE / "embeddings.gguf").tensors
    weights["embeddings.word_embeddings.weight"] = torch.from_numpy(dequantize(words.data, words.tensor_type))
    heads = {name: weights.pop(name) for name in list(weights) if name.startswith(("ner.", "topic."))}
    model = BertModel(BertConfig(**shape), add_pooling_layer=False).eval()
    model.load_state_dict(weights)
    tokenizer = Tokenizer.from_file(str(BUNDLE / "tokenizer.json"))
    tokenizer.no_padding()
    cases = []
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        with torch.no_grad():
            hidden = model(torch.tensor([ids])).last_hidden_state[0]
        pooled = hidden.mean(0)
        cases.append(
            {
                "text": text,
                "input_ids": ids,
                "hidden_first_token": hidden[0].tolist(),
                "hidden_last_token": hidden[-1].tolist(),
                "pooled": pooled.tolist(),
                "ner_logits": (hidden @ heads["ner.weight"].T + heads["ner.bias"]).tolist(),
                "topic_logits": (heads["topic.weight"] @ pooled + heads["topic.bias"]).tolist(),
            }
        )
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (HERE / "golden.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
