import pytest

from keras_finetune import models

pytestmark = pytest.mark.backends


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.lstm_encoder(0), "vocab_size must be an int of at least 1"),
        (lambda: models.lstm_encoder(10, num_layers=0), "num_layers must be an int"),
        (lambda: models.lstm_encoder(10, 7, bidirectional=True), "hidden_dim=7"),
        (lambda: models.cnn_encoder(10.0), r"Received: vocab_size=10\.0"),
        (lambda: models.cnn_encoder(10, embedding_dim=-1), "Received: embedding_dim=-1"),
        (lambda: models.ngram_encoder(10, hidden_dim=0), "Received: hidden_dim=0"),
        (
            lambda: models.transformer_encoder(10, num_heads=3, hidden_dim=16),
            "hidden_dim must be divisible by num_heads.*hidden_dim=16, num_heads=3",
        ),
        (
            lambda: models.transformer_encoder(10, positions="rotory"),
            'Did you mean "rotary"',
        ),
        (lambda: models.transformer_encoder(10, max_length=0), "must be an int of at least 1"),
        (lambda: models.transformer_decoder(10, norm="rsm"), 'Did you mean "rms"'),
        (lambda: models.transformer_decoder(10, num_kv_heads=3), "must divide num_heads"),
        (lambda: models.transformer_decoder(10, activation="swigl"), 'Did you mean "swiglu"'),
        (lambda: models.encoder_decoder(10, num_decoder_layers=0), "num_decoder_layers"),
        (lambda: models.encoder_decoder(10, dropout=1), "dropout must be a number from 0"),
    ],
)
def test_every_builder_says_what_was_wrong(build, message):
    with pytest.raises(ValueError, match=message):
        build()
