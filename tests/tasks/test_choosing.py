import numpy as np
import pytest
import rich

import keras_finetune as kft
from keras_finetune.tasks.choosing import PretrainedScore, PretrainedScores


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    words = {"sport": ["goal", "match", "team"], "money": ["stock", "bank", "rate"]}
    labels = [["sport", "money"][i % 2] for i in range(80)]
    return {"text": [" ".join(rng.choice(words[n], 4)) for n in labels], "label": labels}


@pytest.fixture
def save(rows, tmp_path):
    tokenizer = kft.data.Tokenizer.train(rows["text"], 200, "wordpiece", progress=False)

    def make(name, builder=kft.models.transformer_encoder, **more):
        backbone = builder(tokenizer.vocab_size, 2, 2, 16, max_length=20, **more)
        return kft.save_pretrained(backbone, tmp_path / name, tokenizer=tokenizer)

    return make


def test_ranks_candidates_and_layers(rows, save, capsys):
    good = save("good")
    weak = save("weak")
    # Features that do not know the text cannot tell the labels.
    blind = kft.load_pretrained(weak)
    blind.get_layer("token_embedding").embeddings.assign(
        np.zeros(blind.get_layer("token_embedding").embeddings.shape)
    )
    task = kft.tasks.TextClassification(["sport", "money"], max_length=20)
    scores = kft.compare_pretrained([blind, good], task, rows)
    assert [row.name for row in scores.best_layers()] == [str(good), f"{blind.name} (0)"]
    assert {row.layer for row in scores.rows} == {"block_0", "block_1"}
    best, worst = scores.rows[0], scores.rows[-1]
    assert best.probe_accuracy > 0.9 > 0.7 > worst.probe_accuracy
    assert best.parameters == kft.load_pretrained(good).count_params()
    assert best.gigabytes == pytest.approx(best.parameters * 16 / 1e9)
    assert task.tokenizer is None  # the task is as it was
    rich.print(scores.table(all_layers=True))
    assert "LogME" in capsys.readouterr().out


def test_names_in_brackets_are_no_markup(capsys):
    row = PretrainedScore("models/[red]", "block_0", -0.5, 0.9, 1000, 0.1, 10.0)
    rich.print(PretrainedScores((row,)).table())
    assert "[red]" in capsys.readouterr().out


def test_causal_models_and_few_rows(rows, save):
    path = save("gpt2", kft.models.transformer_decoder)
    task = kft.tasks.TextClassification(["sport", "money"], max_length=20)
    scores = kft.compare_pretrained([path], task, rows, max_rows=40)
    assert len(scores.rows) == 2


def test_bad_input(rows, save):
    task = kft.tasks.TextClassification(["sport", "money"], max_length=20)
    with pytest.raises(ValueError, match="list of models or paths"):
        kft.compare_pretrained("one", task, rows)
    with pytest.raises(ValueError, match="has no tokenizer"):
        kft.compare_pretrained([kft.models.transformer_encoder(20, 1, 2, 16)], task, rows)
    several = kft.tasks.TextClassification(["a", "b"], max_length=20, multi_label=True)
    with pytest.raises(ValueError, match="multi_label"):
        kft.compare_pretrained(["x"], several, rows)
