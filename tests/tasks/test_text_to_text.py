"""What holds for summarisation and translation alike, on both kinds of model."""

import functools

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner, models
from keras_finetune.data import Tokenizer
from keras_finetune.tasks import Summarization, Translation, load, save

PAIRS = {
    "en": ["good morning", "thank you very much", "where is the station", "it rains", "sit down"],
    "zh": ["早上好", "非常感谢", "车站在哪里", "下雨了", "请坐"],
}
KINDS = [
    pytest.param("encoder_decoder", marks=pytest.mark.backends),
    "lstm_encoder_decoder",
    "transformer_decoder",
]


@pytest.fixture(scope="module")
def both_languages():
    return Tokenizer.train(2 * (PAIRS["en"] + PAIRS["zh"]), 120, "char", progress=False)


@pytest.fixture(scope="module")
def make_backbone(both_languages):
    def make(kind, **more):
        keras.utils.set_random_seed(0)
        sizes = {"hidden_dim": 48, "dropout": 0.0, **more}
        if kind != "lstm_encoder_decoder":
            sizes = {"num_layers": 1, "num_heads": 4, "max_length": 64, **sizes}
        return getattr(models, kind)(both_languages.vocab_size, **sizes)

    return make


@pytest.fixture(scope="module")
def learned(both_languages, make_backbone):
    """A task and a model that knows the pairs by heart, of a kind; trained once."""

    @functools.cache
    def learn(kind):
        task = task_of(
            both_languages, label_smoothing=0.0 if kind == "transformer_decoder" else 0.1
        )
        tuner = FineTuner(task.build(make_backbone(kind)))
        tuner.compile("adam", learning_rate=0.01)
        many = {name: 9 * values for name, values in PAIRS.items()}
        tuner.fit(task.dataset(many, batch_size=5, shuffle=False), epochs=5, verbose=0)
        return task, tuner.model

    return learn


def task_of(tokenizer, **more):
    return Translation(tokenizer, max_length=32, max_target_length=12, **more)


def rows_of(dataset):
    """Every row of a data set without padding: (inputs, labels, weights)."""
    for x, labels, weights in dataset.as_numpy_iterator():
        for row in range(len(labels)):
            yield {name: values[row] for name, values in x.items()}, labels[row], weights[row]


def test_an_encoder_decoder_is_taught_the_whole_target(both_languages, make_backbone):
    task = task_of(both_languages)
    task.build(make_backbone("encoder_decoder"))
    rows = list(rows_of(task.dataset(PAIRS, shuffle=False, batch_size=2)))
    assert len(rows) == 5
    for (x, labels, weights), source, target in zip(rows, PAIRS["en"], PAIRS["zh"], strict=True):
        count = int(weights.sum())
        np.testing.assert_array_equal(weights, np.arange(len(weights)) < count)
        assert labels[count - 1] == both_languages.sep_id
        assert x["decoder_token_ids"][0] == both_languages.cls_id
        np.testing.assert_array_equal(x["decoder_token_ids"][1:count], labels[: count - 1])
        np.testing.assert_array_equal(x["decoder_padding_mask"], weights > 0)
        assert task.decode([labels[: count - 1]]) == [target]
        assert x["token_ids"][x["padding_mask"]].tolist() == both_languages.encode(source)


def test_a_decoder_only_model_is_taught_the_target_but_not_the_prompt(
    both_languages, make_backbone
):
    task = task_of(both_languages, separator="r: ")
    task.build(make_backbone("transformer_decoder"))
    rows = list(rows_of(task.dataset(PAIRS, shuffle=False, batch_size=2)))
    for (x, labels, weights), source, target in zip(rows, PAIRS["en"], PAIRS["zh"], strict=True):
        ids = x["token_ids"][x["padding_mask"]]
        np.testing.assert_array_equal(labels[: len(ids) - 1], ids[1:])
        first = int(weights.argmax())
        assert both_languages.decode(ids[: first + 1]).startswith(source[:4])
        counted = labels[weights > 0]
        assert task.decode([counted]) == [target]
        assert counted[-1] == both_languages.sep_id
        assert not weights[len(ids) :].any()


@pytest.mark.parametrize(
    "text",
    [
        "他说：“你好。”然后走了……",
        "“你说得太多了，”他说道。",
        'the dog " barks “ and — “ runs',
    ],
)
def test_no_spaces_between_chinese_characters_and_their_punctuation(text):
    tokenizer = Tokenizer.train(2 * [text], 100, "wordpiece", progress=False)
    task = Translation(tokenizer, decoder_only=False)
    assert task.decode([tokenizer.encode(text)]) == [text]


def test_rows_are_cut_at_the_lengths_and_keep_their_marks(both_languages, make_backbone):
    rows = {"en": ["it rains " * 40], "zh": ["下雨了" * 40]}
    task = task_of(both_languages)
    task.build(make_backbone("encoder_decoder"))
    ((x, labels, weights),) = rows_of(task.dataset(rows))
    assert x["padding_mask"].sum() == 32
    assert weights.sum() == 12
    assert labels[11] == both_languages.sep_id
    task = task_of(both_languages, separator="r: ")
    task.build(make_backbone("transformer_decoder"))
    ((x, labels, weights),) = rows_of(task.dataset(rows))
    assert x["padding_mask"].sum() == 32 + 12 - 1
    assert weights.sum() == 12


def test_source_and_target_have_widths_of_their_own(both_languages, make_backbone):
    rows = {"en": ["it rains " * (1 + n % 3) for n in range(60)], "zh": ["下雨了", "请坐"] * 30}
    task = task_of(both_languages)
    task.build(make_backbone("encoder_decoder"))
    shapes = {
        (x["token_ids"].shape[1], labels.shape[1])
        for x, labels, _ in task.dataset(rows, batch_size=4).as_numpy_iterator()
    }
    assert shapes == {(12, 4), (20, 4), (32, 4)}


@pytest.mark.parametrize("kind", KINDS)
def test_learns_pairs_by_heart(learned, kind):
    task, model = learned(kind)
    assert task.predict(model, PAIRS["en"]) == PAIRS["zh"]
    scores = task.evaluate(model, PAIRS)
    assert scores.bleu == pytest.approx(100)
    assert scores.chrf == pytest.approx(100)


def test_the_mean_loss_does_not_depend_on_padding(learned):
    task, model = learned("encoder_decoder")
    together = model.evaluate(task.dataset(PAIRS, shuffle=False), verbose=0)
    total = tokens = 0.0
    for x, labels, weights in task.dataset(PAIRS, shuffle=False, batch_size=1):
        loss = model.evaluate(x, labels, sample_weight=weights, verbose=0)[0]
        total, tokens = total + loss * float(weights.numpy().sum()), tokens + weights.numpy().sum()
    assert together[0] == pytest.approx(total / tokens, rel=1e-4)


def test_predict_takes_lists_rows_and_columns(learned):
    task, model = learned("lstm_encoder_decoder")
    assert task.predict(model, PAIRS["en"][:2]) == PAIRS["zh"][:2]
    assert task.predict(model, {"en": PAIRS["en"][:2]}) == PAIRS["zh"][:2]
    assert task.predict(model, [{"en": t} for t in PAIRS["en"][:2]]) == PAIRS["zh"][:2]
    assert task.predict(model, []) == []
    with pytest.raises(ValueError, match="one string"):
        task.predict(model, "good morning")
    with pytest.raises(ValueError, match="Row 1: the text in column 'en' is empty"):
        task.predict(model, ["good", "  "])
    with pytest.raises(ValueError, match=r"Row 1: .* is None \(missing\). .* or fill it in\."):
        task.predict(model, ["good", None])


def test_references_may_be_another_column(both_languages, learned):
    _, model = learned("lstm_encoder_decoder")
    task = Summarization(both_languages, text="en", summary="zh", max_length=32, decoder_only=False)
    rows = {"en": ["it rains"], "all": [["雨", "下雨了"]]}
    scores = task.evaluate(model, rows, references="all", max_new_tokens=12)
    assert scores.rows == 1
    with pytest.raises(ValueError, match='no column "zh"'):
        task.evaluate(model, rows)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (None, r"Row 1: the reference in column 'zh' is None \(missing\)"),
        (" ", "Row 1: the reference in column 'zh' is empty"),
        (["好", None], "Row 1: the reference in column 'zh' is"),
    ],
)
@pytest.mark.parametrize("kind", [Summarization, Translation])
def test_references_are_checked_before_anything_is_written(
    both_languages, kind, reference, message
):
    columns = {"text": "en", "summary": "zh"} if kind is Summarization else {}
    task = kind(both_languages, decoder_only=True, **columns)
    rows = [{"en": "it rains", "zh": "下雨了"}, {"en": "sit down", "zh": reference}]
    with pytest.raises(ValueError, match=message):
        task.evaluate(None, rows)


def test_the_frozen_part_is_not_cached_since_rows_have_two_lengths(both_languages, make_backbone):
    task = task_of(both_languages)
    tuner = FineTuner(task.build(make_backbone("encoder_decoder")))
    tuner.freeze("embeddings")
    dataset = task.dataset(PAIRS)
    tuner.fit(dataset, verbose=0)
    with pytest.raises(ValueError, match="several lengths"):
        tuner.fit(dataset, cache_frozen=True, verbose=0)


def test_estimate_reads_rows_of_two_lengths(both_languages, make_backbone):
    task = task_of(both_languages)
    tuner = FineTuner(task.build(make_backbone("lstm_encoder_decoder")))
    rows = {"en": PAIRS["en"] * 2, "zh": PAIRS["zh"] * 2}
    assert tuner.estimate(task.dataset(rows, batch_size=2), epochs=1).seconds > 0


def test_a_checkpoint_brings_its_tokenizer_and_says_how_its_decoder_starts(
    both_languages, make_backbone
):
    backbone = make_backbone("encoder_decoder")
    backbone.tokenizer = both_languages
    backbone.pretrained_config = {"decoder_start_token_id": both_languages.sep_id}
    task = task_of(None)
    task.build(backbone)
    assert task.tokenizer is both_languages
    (x, labels, _) = next(iter(task.dataset(PAIRS)))
    assert (x["decoder_token_ids"][:, 0].numpy() == both_languages.sep_id).all()
    assert (labels[:, 0].numpy() == both_languages.cls_id).all()  # As BART writes <s> first.
    assert task.get_config()["start_id"] == both_languages.sep_id


def test_a_head_that_is_there_is_kept(both_languages, make_backbone):
    whole = models.language_model(make_backbone("transformer_decoder"), use_bias=True)
    assert task_of(both_languages).build(whole) is whole


def test_a_loaded_task_writes_the_same(learned, tmp_path):
    task, model = learned("lstm_encoder_decoder")
    again, model = load(save(task, model, tmp_path / "saved"))
    assert type(model.loss).__name__ == "SmoothedCrossentropy"
    assert again.predict(model, PAIRS["en"]) == PAIRS["zh"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"en": ["a", ""], "zh": ["好", "好"]}, "Row 1: the text in column 'en' is empty"),
        ({"en": ["a", "b"], "zh": ["好", " \n"]}, "Row 1: the text in column 'zh' is empty"),
        ({"en": ["a", "b"], "zh": ["好", None]}, "Row 1: the text in column 'zh' is None"),
        ({"en": ["a"], "cn": ["好"]}, 'no column "zh"'),
        ({"en": [], "zh": []}, "no rows"),
    ],
)
def test_rows_that_are_refused(both_languages, make_backbone, rows, message):
    task = task_of(both_languages)
    task.build(make_backbone("lstm_encoder_decoder"))
    with pytest.raises(ValueError, match=message):
        task.dataset(rows)


def test_models_that_cannot_write_are_refused(both_languages):
    task = task_of(both_languages)
    size = both_languages.vocab_size
    for backbone in (
        models.transformer_encoder(size, 1, 2, 16),
        models.lstm_encoder(size, 16, bidirectional=True),
    ):
        with pytest.raises(ValueError, match=r"needs a model that writes: .*encoder_decoder"):
            task.build(backbone)


def test_lengths_beyond_the_positions_are_refused(both_languages, make_backbone):
    with pytest.raises(ValueError, match="max_length=64"):
        Translation(both_languages, max_length=65).build(make_backbone("encoder_decoder"))
    with pytest.raises(ValueError, match="max_target_length=64"):
        Translation(both_languages, max_target_length=65).build(make_backbone("encoder_decoder"))
    with pytest.raises(ValueError, match="max_length of at most 34"):
        Translation(both_languages, max_length=40, max_target_length=30).build(
            make_backbone("transformer_decoder")
        )


def test_before_build_the_kind_of_model_is_not_known(both_languages):
    with pytest.raises(ValueError, match=r"call build\(backbone\)"):
        Translation(both_languages).dataset(PAIRS)
    with pytest.raises(ValueError, match="no tokenizer yet"):
        Translation().dataset(PAIRS)
    dataset = Translation(both_languages, decoder_only=False).dataset(PAIRS)
    assert set(dataset.element_spec[0]) >= {"decoder_token_ids"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_length": 2}, "max_length must be an int of at least 3"),
        ({"max_target_length": 1}, "max_target_length must be an int of at least 2"),
        ({"label_smoothing": 1.0}, "label_smoothing must be"),
        ({"source": "zh"}, "two columns"),
        ({"tokenizer": "bert"}, "must be a keras_finetune.data.Tokenizer"),
    ],
)
def test_arguments_that_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Translation(**arguments)
