import numpy as np
import pytest

import keras_finetune as kft
from keras_finetune import models
from keras_finetune.tasks.fitting import check_backbone, next_token_model


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


def test_a_head_that_was_left_out_is_asked_for():
    def decoder(tied, architecture="LlamaForCausalLM"):
        made = models.transformer_decoder(50, num_layers=1, num_heads=2, hidden_dim=8)
        names = {"model_type": "llama", "architectures": [architecture]}
        made.pretrained_config = names | {"tie_word_embeddings": tied}
        return made

    with pytest.raises(ValueError, match=r"head of its own.*load_pretrained\(path, head=True\)"):
        next_token_model(decoder(tied=False), {})
    chosen = next_token_model(decoder(tied=False), {"tied": False})
    assert next_token_model(chosen, {}) is chosen
    with pytest.raises(ValueError, match="has a next-token head already"):
        next_token_model(chosen, {"tied": True})
    for nothing_lost in (decoder(tied=True), decoder(False, "LlamaModel")):
        assert next_token_model(nothing_lost, {}).output_shape == (None, None, 50)


@pytest.mark.parametrize("kind", ["classification", "masked", "causal", "pairs"])
def test_a_length_that_is_no_multiple_of_eight(kind):
    """Batches are no wider than the positions that there are."""
    texts = ["a b c d e f g h i j k l m n o p"] * 16
    tokenizer = kft.data.Tokenizer.train(
        texts, kind="char", vocab_size=100, min_frequency=1, progress=False
    )
    size = {"num_layers": 1, "num_heads": 2, "hidden_dim": 16, "max_length": 13}
    rows, build = {"text": texts, "label": ["x", "y"] * 8, "to": texts}, kft.models
    if kind == "classification":
        task = kft.tasks.TextClassification(["x", "y"], tokenizer, max_length=13)
        model = task.build(build.transformer_encoder(tokenizer.vocab_size, **size))
    elif kind == "masked":
        task = kft.tasks.MaskedLanguageModeling(tokenizer, max_length=13, separate_texts=True)
        model = task.build(build.transformer_encoder(tokenizer.vocab_size, **size))
    elif kind == "causal":
        task = kft.tasks.LanguageModeling(tokenizer, max_length=13, separate_texts=True)
        model = task.build(build.transformer_decoder(tokenizer.vocab_size, **size))
    else:
        task = kft.tasks.Translation(
            tokenizer, source="text", target="to", max_length=13, max_target_length=13
        )
        model = task.build(build.encoder_decoder(tokenizer.vocab_size, **size))
    found = model.evaluate(task.dataset(rows), return_dict=True, verbose=0)
    assert np.isfinite(found["loss"])
    assert max(x["token_ids"].shape[1] for x, *_ in task.dataset(rows)) == 13


def test_a_fine_tuner_in_the_place_of_its_model(tokenizer, backbone, tmp_path):
    task = kft.tasks.TextClassification(["bad", "good"], tokenizer, max_length=32)
    tuner = kft.FineTuner(task.build(backbone))
    answering = kft.tasks.QuestionAnswering(tokenizer, max_length=32, stride=8)
    question = [{"question": "what?", "context": "a film"}]
    calls = [
        lambda: answering.predict(tuner, question),
        lambda: task.predict(tuner, ["a film"]),
        lambda: task.evaluate(tuner, {"text": ["a film"], "label": ["good"]}),
        lambda: task.build(tuner),
        lambda: kft.tasks.save(task, tuner, tmp_path / "saved"),
        lambda: kft.save_pretrained(tuner, tmp_path / "saved"),
        lambda: kft.tuning.linear_probe_then_tune(tuner),
        lambda: kft.tuning.gradual_unfreezing(tuner),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"Keras model\. Received FineTuner.*`model`"):
            call()
    with pytest.raises(ValueError, match=r"Received str\. Give such a model"):
        task.build("bert")
    assert not (tmp_path / "saved").exists()
