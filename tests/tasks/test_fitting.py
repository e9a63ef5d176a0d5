import pytest

from keras_finetune import models
from keras_finetune.tasks.fitting import check_backbone


def test_sizes_must_agree(tokenizer):
    size = tokenizer.vocab_size
    check_backbone(models.cnn_encoder(size, hidden_dim=8), tokenizer, 32)
    for wrong in (size + 1, size - 1):
        backbone = models.cnn_encoder(wrong, hidden_dim=8)
        with pytest.raises(ValueError, match=f"knows {size} tokens.* has {wrong} rows"):
            check_backbone(backbone, tokenizer, 32)


def test_an_embedding_filled_up_to_a_multiple_of_64(tokenizer):
    filled = -(-tokenizer.vocab_size // 64) * 64 + 64
    check_backbone(models.cnn_encoder(filled, hidden_dim=8), tokenizer, 32)


def test_longer_than_the_positions(tokenizer):
    backbone = models.transformer_encoder(
        tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=8, max_length=16
    )
    check_backbone(backbone, tokenizer, 16)
    with pytest.raises(ValueError, match="only 16 positions"):
        check_backbone(backbone, tokenizer, 17)
