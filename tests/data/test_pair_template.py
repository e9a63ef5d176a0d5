import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, processors

from keras_finetune.data.pair_template import PairTemplate, read_pair_template
from keras_finetune.data.tokenizer import Tokenizer


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
def test_bert(kind):
    tokenizer = Tokenizer.train(["some text"] * 2, vocab_size=300, kind=kind, progress=False)
    cls, sep = (tokenizer.cls_id,), (tokenizer.sep_id,)
    template = tokenizer.pair_template()
    assert template == PairTemplate(cls, sep, sep, (0, 0, 0, 1, 1))
    assert template.num_special_tokens == 3
    encoded = tokenizer.encode_batch(["some"], ["text"])
    parts = [tokenizer.encode_batch([text], special_tokens=False) for text in ("some", "text")]
    first, second = (part.token_ids.tolist() for part in parts)
    assert encoded.token_ids.tolist() == [*cls, *first, *sep, *second, *sep]


def test_roberta_and_gpt2():
    vocab = {"<s>": 0, "</s>": 1, "a": 2, "b": 3}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert read_pair_template(tokenizer) == PairTemplate((), (), (), (0, 0, 0, 1, 0))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    assert read_pair_template(tokenizer) == PairTemplate((0,), (1, 1), (1,), (0, 0, 0, 0, 0))


def test_a_tokenizer_without_tokens():
    with pytest.raises(ValueError, match="is it trained"):
        read_pair_template(tokenizers.Tokenizer(models.BPE()))
