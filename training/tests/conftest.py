import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors


@pytest.fixture
def tokenizer():
    """Pieces of up to three characters behind a word separator, as a Unigram cuts."""
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,'-"
    vocabulary = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((c, -5.0) for c in letters), ("▁the", -4.0)]
    made = Tokenizer(models.Unigram(vocabulary, 3, byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return made
