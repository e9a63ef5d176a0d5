import json

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner, models
from keras_finetune.data import read
from keras_finetune.tasks import TextClassification


@pytest.fixture
def task(tokenizer):
    return TextClassification(["bad", "good"], tokenizer, max_length=32)


@pytest.mark.backends
def test_learns_and_tells(task, backbone, reviews):
    tuner = FineTuner(task.build(backbone))
    tuner.compile("adam", learning_rate=0.01)
    tuner.fit(task.dataset(reviews), epochs=6, verbose=0)
    assert tuner.history["accuracy"][-1] > 0.9
    assert tuner.history["macro_f1"][-1] > 0.9
    report = task.evaluate(tuner.model, reviews)
    assert report.accuracy == 1.0
    good, bad = task.predict(tuner.model, ["a moving and funny film", "dull and far too long"])
    assert (good.label, bad.label) == ("good", "bad")
    assert good.labels == ("good",)
    assert good.probability == good.probabilities["good"] > 0.5
    assert sum(good.probabilities.values()) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.backends
def test_predictions_keep_the_order_of_texts(task, backbone, rng):
    model = task.build(backbone)
    words = ["film", "long", "best", "waste", "year"]
    texts = [" ".join(rng.choice(words, rng.integers(1, 20))) for _ in range(90)]
    together = [p.probabilities["good"] for p in task.predict(model, texts, batch_size=16)]
    alone = [task.predict(model, [text])[0].probabilities["good"] for text in texts[:5]]
    assert together[:5] == pytest.approx(alone, abs=1e-5)
    backwards = [p.probabilities["good"] for p in task.predict(model, texts[::-1])]
    assert backwards[::-1] == pytest.approx(together, abs=1e-5)
    assert task.predict(model, []) == []
    for given in (np.array(texts[:3]), iter(texts[:3]), dict.fromkeys(texts[:3]).keys()):
        assert task.predict(model, given) == task.predict(model, texts[:3])
    rows = ({"text": text} for text in texts[:3])
    assert task.predict(model, rows) == task.predict(model, texts[:3])


def test_report_agrees_with_predictions(task, backbone, reviews):
    model = task.build(backbone)
    report = task.evaluate(model, reviews)
    predicted = [p.label for p in task.predict(model, reviews["text"])]
    expected = np.mean([a == b for a, b in zip(predicted, reviews["label"], strict=True)])
    assert report.accuracy == pytest.approx(expected)


def test_balanced_classes_weigh_the_rare_one(task, backbone, reviews):
    rare = {
        "text": reviews["text"],
        "label": ["good"] + ["bad"] * (len(reviews["text"]) - 1),
    }
    dataset = task.dataset(rare)
    assert dataset.label_counts.tolist() == [47, 1]
    tuner = FineTuner(task.build(backbone))
    tuner.fit(dataset, epochs=1, class_weight="balanced", verbose=0)


@pytest.mark.backends
def test_multi_label(tokenizer, backbone, reviews):
    kinds = [["short"] if len(text) < 22 else ["long", "film"] for text in reviews["text"]]
    kinds[0] = []
    rows = {"text": reviews["text"], "tags": kinds}
    task = TextClassification(
        ["short", "long", "film"], tokenizer, max_length=32, label="tags", multi_label=True
    )
    tuner = FineTuner(task.build(backbone, pooling="max"))
    tuner.compile("adam", learning_rate=0.02)
    tuner.fit(task.dataset(rows), epochs=15, verbose=0)
    report = task.evaluate(tuner.model, rows)
    assert report.macro_f1 > 0.9
    assert task.predict(tuner.model, ["nothing in it works at all"])[0].labels == ("long", "film")


def test_vectors_of_labels_are_read_the_same_way_everywhere(tokenizer, backbone, monkeypatch):
    monkeypatch.setattr("keras_finetune.data.Examples.chunks.__defaults__", (2,))
    vectors = [[0, 1], [1, 0], [0, 1], [0, 0]]
    rows = {"text": ["a", "b", "c", "d"], "tags": np.array(vectors)}
    task = TextClassification(["x", "y"], tokenizer, label="tags", multi_label=True)
    _, labels = next(iter(task.dataset(rows, shuffle=False).as_numpy_iterator()))
    assert labels.tolist() == vectors
    report = task.evaluate(task.build(backbone), rows)
    assert [scores.support for scores in report.per_class] == [1, 2]
    with pytest.raises(ValueError, match=r"Row 3, .* is a vector of 0 and 1"):
        read(rows).label_names("tags")


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_the_metric_of_several_labels_agrees_with_the_report(
    tokenizer, backbone, reviews, activation
):
    rows = {"text": reviews["text"], "tags": [[label] for label in reviews["label"]]}
    task = TextClassification(["bad", "good"], tokenizer, label="tags", multi_label=True)
    model = task.build(backbone, activation=activation)
    metric = model.evaluate(task.dataset(rows), return_dict=True, verbose=0)["macro_f1"]
    assert metric == pytest.approx(task.evaluate(model, rows).macro_f1, abs=1e-5)


def test_pairs(tokenizer, reviews):
    rows = {
        "first": reviews["text"],
        "second": [text.upper() for text in reviews["text"]],
        "label": reviews["label"],
    }
    task = TextClassification(["bad", "good"], tokenizer, max_length=24, text=("first", "second"))
    backbone = models.transformer_encoder(
        tokenizer.vocab_size,
        num_layers=1,
        num_heads=2,
        hidden_dim=16,
        max_length=24,
        num_segments=2,
        dropout=0.0,
    )
    model = task.build(backbone)
    x, _ = next(iter(task.dataset(rows).as_numpy_iterator()))
    assert set(x) == {"token_ids", "padding_mask", "segment_ids"}
    assert set(np.unique(x["segment_ids"])) == {0, 1}
    assert x["token_ids"].shape[1] <= 24
    FineTuner(model).fit(task.dataset(rows), epochs=1, verbose=0)
    assert len(task.predict(model, [("good", "bad"), ("bad", "good")])) == 2


def test_pairs_without_segments_and_segments_without_pairs(tokenizer, reviews, backbone):
    pairs = TextClassification(["bad", "good"], tokenizer, max_length=24, text=("text", "text_2"))
    rows = {**reviews, "text_2": reviews["text"]}
    model = pairs.build(backbone)
    FineTuner(model).fit(pairs.dataset(rows), epochs=1, verbose=0)

    single = TextClassification(["bad", "good"], tokenizer, max_length=24)
    segmented = models.transformer_encoder(
        tokenizer.vocab_size, num_layers=1, num_heads=2, hidden_dim=16, num_segments=2
    )
    model = single.build(segmented)
    FineTuner(model).fit(single.dataset(reviews), epochs=1, verbose=0)
    assert len(single.predict(model, ["a film"])) == 1


def test_probabilities_from_the_model(task, backbone, reviews):
    model = task.build(backbone, activation="softmax")
    tuner = FineTuner(model)
    tuner.fit(task.dataset(reviews), epochs=1, verbose=0)
    assert sum(task.predict(model, ["a film"])[0].probabilities.values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows["text"].__setitem__(7, None), "Row 7.*'text' is None"),
        (lambda rows: rows["text"].__setitem__(7, float("nan")), "Row 7.*'text' is nan"),
        (lambda rows: rows["text"].__setitem__(7, 3.5), "Row 7.*3.5"),
        (lambda rows: rows["label"].__setitem__(5, "goood"), 'row 5.*Did you mean "good"'),
        (lambda rows: rows["label"].__setitem__(5, 2), "label 2 in row 5"),
        (lambda rows: rows.update(label=[0.0] * 48), "a float"),
        (lambda rows: rows.update(labels=rows.pop("label")), 'Columns: text, labels.*"labels"'),
        (lambda rows: rows["text"].pop(), "differ in length"),
        (lambda rows: rows.update(text=[], label=[]), "no rows"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_written(task, reviews, tmp_path, spoil, message):
    spoil(reviews)
    with pytest.raises(ValueError, match=message):
        task.dataset(reviews)
    cache = tmp_path / "cache"
    assert not cache.exists() or not list(cache.iterdir())


def test_one_class_only_and_classes_unseen_in_training(task, backbone, reviews):
    tuner = FineTuner(task.build(backbone))
    one = {"text": reviews["text"], "label": ["good"] * 48}
    with pytest.raises(ValueError, match="Every training label is class 1"):
        tuner.fit(task.dataset(one), verbose=0)
    three = TextClassification(["bad", "good", "fair"], task.tokenizer, max_length=32)
    tuner = FineTuner(three.build(backbone))
    unseen = {"text": ["so so"], "label": ["fair"]}
    with pytest.raises(ValueError, match=r"class\(es\) \[2\]"):
        tuner.fit(three.dataset(reviews), validation_data=three.dataset(unseen), verbose=0)
    with pytest.raises(ValueError, match="has 2 classes, but the model has 3 outputs"):
        tuner.fit(task.dataset(reviews), verbose=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": ["only"]}, "2 different names"),
        ({"labels": ["a", "a"]}, "2 different names"),
        ({"labels": "ab"}, "2 different names or more.* Received: 'ab'"),
        ({"labels": ["a", None]}, r"label_names\(\) finds. Received: \['a', None\]"),
        ({"labels": None}, "2 different names or more.* Received: None"),
        ({"max_length": 1}, "max_length must be"),
        ({"max_length": 8.0}, "max_length must be an int of at least 3. Received: 8.0"),
        ({"max_length": None}, "max_length must be an int of at least 3. Received: None"),
        ({"text": ("a", "b", "c")}, "text must be the name of a column.* Received: text="),
        ({"text": ()}, "text must be the name of a column"),
        ({"text": 3}, "text must be the name of a column"),
        ({"multi_label": "yes"}, "multi_label must be True or False. Received: 'yes'"),
        ({"tokenizer": "bert"}, "Tokenizer.train"),
    ],
)
def test_task_refuses(tokenizer, arguments, message):
    given = {"labels": ["a", "b"], "tokenizer": tokenizer, **arguments}
    with pytest.raises(ValueError, match=message):
        TextClassification(**given)


def test_lengths_of_numpy_are_ints(tokenizer):
    task = TextClassification(np.array(["a", "b"]), tokenizer, max_length=np.int64(8))
    assert json.loads(json.dumps(task.get_config()))["max_length"] == 8


def test_predict_refuses_one_string(task, backbone):
    with pytest.raises(ValueError, match=r"put it in \[\.\.\.\]"):
        task.predict(task.build(backbone), "a film")


@pytest.mark.parametrize("units", [1, 3])
def test_a_model_of_other_classes_is_refused_before_it_predicts(task, backbone, reviews, units):
    model = models.text_classifier(backbone, units, activation="sigmoid")
    message = f"The task has 2 classes, but the model has {units} outputs"
    for call, given in ((task.predict, reviews["text"]), (task.evaluate, reviews)):
        with pytest.raises(ValueError, match=message):
            call(model, given)


def test_shuffled_predictions_are_refused(task, backbone, reviews):
    tuner = FineTuner(task.build(backbone))
    with pytest.raises(ValueError, match="shuffle=False"):
        tuner.predict(task.dataset(reviews))
    outputs = tuner.predict(task.dataset(reviews, shuffle=False), verbose=0)
    assert keras.ops.shape(outputs) == (48, 2)


def test_pairs_must_be_pairs(tokenizer, backbone):
    pairs = TextClassification(["no", "yes"], tokenizer, max_length=32, text=("a", "b"))
    model = pairs.build(backbone)
    with pytest.raises(ValueError, match=r"give predict a list of \(text, text\)"):
        pairs.predict(model, ["only one"])


def test_a_single_label_is_a_yes_or_no(tokenizer, backbone):
    task = TextClassification(["spam"], tokenizer, max_length=32, multi_label=True)
    tuner = FineTuner(task.build(backbone))
    tuner.compile("adam", learning_rate=0.01)
    rows = {"text": ["win money now", "see you at lunch"] * 8, "label": [["spam"], []] * 8}
    tuner.fit(task.dataset(rows), epochs=8, verbose=0)
    spam, ham = task.predict(tuner.model, ["win money now", "see you at lunch"])
    assert (spam.labels, ham.labels) == (("spam",), ())


@pytest.mark.parametrize("multi_label", [False, True])
def test_outputs_that_are_nan_are_no_predictions(tokenizer, backbone, reviews, multi_label):
    task = TextClassification(["bad", "good"], tokenizer, max_length=32, multi_label=multi_label)
    model = task.build(backbone)
    model.set_weights([np.full_like(each, np.nan) for each in model.get_weights()])
    labels = [[name] for name in reviews["label"]] if multi_label else reviews["label"]
    message = r"NaN or infinite.*lower the learning rate"
    with pytest.raises(ValueError, match=message):
        task.predict(model, reviews["text"])
    with pytest.raises(ValueError, match=message):
        task.evaluate(model, {"text": reviews["text"], "label": labels})
    with pytest.raises(ValueError, match=message):
        task.decode(np.array([[0.5, 0.5], [np.nan, 0.5]]))


def test_arguments_in_the_wrong_order(task, backbone, reviews):
    model = task.build(backbone)
    for method in (task.predict, task.evaluate):
        with pytest.raises(ValueError, match="The task needs a Keras model"):
            method(reviews, model)


def test_shuffle_is_a_flag(task, reviews):
    with pytest.raises(ValueError, match="shuffle must be True or False"):
        task.dataset(reviews, shuffle="no")
