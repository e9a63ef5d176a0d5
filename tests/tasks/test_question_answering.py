import itertools

import keras
import numpy as np
import pytest

from keras_finetune import FineTuner, load_model, models, tasks
from keras_finetune.data import Tokenizer
from keras_finetune.tasks import QuestionAnswering

PEOPLE = {"Ada": "red", "Ben": "green", "Cleo": "blue", "Dan": "black"}
THINGS = ["car", "hat", "boat"]


def story(people):
    return " ".join(f"{who} has a {PEOPLE[who]} {what}." for who, what in people)


def stories(unanswerable=False):
    """Who has what, in all orders of two people; asked for a colour that one of them has."""
    rows = {"id": [], "question": [], "context": [], "answers": []}
    for pair in itertools.permutations(PEOPLE, 2):
        context = story(zip(pair, THINGS, strict=False))
        asked = [(who, PEOPLE[who]) for who in pair]
        if unanswerable:
            asked[0] = (next(who for who in PEOPLE if who not in pair), None)
        for who, colour in asked:
            found = [] if colour is None else [colour]
            rows["id"].append(f"{'-'.join(pair)}:{who}")
            rows["question"].append(f"What colour has {who}?")
            rows["context"].append(context)
            starts = [context.index(f" {text} ") + 1 for text in found]
            rows["answers"].append({"text": found, "answer_start": starts})
    return rows


@pytest.fixture
def rows():
    return stories()


@pytest.fixture(scope="module")
def words():
    texts = [*stories()["context"], *stories()["question"]]
    return Tokenizer.train(texts, 300, "wordpiece", min_frequency=1, progress=False)


def make(words, **options):
    return QuestionAnswering(words, **{"max_length": 32, "stride": 8, **options})


def encoder(words, kind=models.transformer_encoder, **options):
    keras.utils.set_random_seed(0)
    sizes = {"num_heads": 2, "hidden_dim": 32, "max_length": 32, "dropout": 0.0}
    return kind(words.vocab_size, **{"num_layers": 2, **sizes, **options})


def fit(task, backbone, rows, epochs, learning_rate=2e-3):
    tuner = FineTuner(task.build(backbone))
    tuner.compile("adam", learning_rate=learning_rate)
    many = {name: 10 * values for name, values in rows.items()}
    tuner.fit(task.dataset(many, batch_size=8), epochs=epochs, verbose=0)
    return tuner


@pytest.fixture(scope="module")
def answering(words):
    """A task, and the tuner of a model that has learned the stories."""
    task = make(words)
    return task, fit(task, encoder(words, num_layers=1, num_segments=2), stories(), 7, 5e-3)


@pytest.mark.backends
def test_learns_what_needs_no_reading(words):
    rows = {"question": [], "context": [], "answers": []}
    for who, what in itertools.product(PEOPLE, THINGS):
        context = story([(who, what)])
        rows["question"].append("What colour?")
        rows["context"].append(context)
        start = context.index(PEOPLE[who])
        rows["answers"].append({"text": [PEOPLE[who]], "answer_start": [start]})
    task = make(words)
    backbone = models.cnn_encoder(words.vocab_size, hidden_dim=16, embedding_dim=16)
    tuner = FineTuner(task.build(backbone))
    tuner.compile("adam", learning_rate=2e-2)
    tuner.fit(task.dataset(rows, batch_size=4), epochs=8, verbose=0)
    assert tuner.history["accuracy"][-1] == 1.0
    assert task.evaluate(tuner.model, rows).exact_match == 100


def test_learns_and_answers(answering, rows):
    task, tuner = answering
    assert tuner.history["accuracy"][-1] == 1.0
    scores = task.evaluate(tuner.model, rows)
    assert (scores.exact_match, scores.f1, scores.total, scores.inexact) == (100, 100, 24, 0)
    context = rows["context"][0]
    answer = task.predict(tuner.model, [("What colour has Ada?", context)], n_best=3)[0]
    assert (answer.text, context[answer.start : answer.end]) == ("red", "red")
    assert answer.null_probability is None
    assert answer.n_best[0].text == "red"
    chances = [each.probability for each in answer.n_best]
    assert chances == sorted(chances, reverse=True)
    assert len(chances) == 3
    assert chances[0] == answer.probability > 0.8


@pytest.mark.parametrize("kind", [models.transformer_encoder, models.transformer_decoder])
def test_learns_which_questions_have_no_answer(words, kind, tmp_path):
    rows = stories(unanswerable=True)
    task = make(words, unanswerable=True)
    tuner = fit(task, encoder(words, kind), rows, 7)
    assert task.null_position == ("last" if kind is models.transformer_decoder else None)
    scores = task.evaluate(tuner.model, rows)
    assert (scores.exact_match, scores.total) == (100, 24)
    assert scores.has_answer.total == scores.no_answer.total == 12
    found = task.predict(tuner.model, rows)
    assert [answer.text for answer in found] == [
        "".join(answers["text"]) for answers in rows["answers"]
    ]
    missing = found[0]
    assert (missing.text, missing.start, missing.end) == ("", 0, 0)
    assert missing.probability == missing.null_probability > 0.5
    assert missing.n_best[0].text

    task.null_threshold = -1e9
    assert task.evaluate(tuner.model, rows).has_answer.exact_match == 0
    assert abs(task.tune_threshold(tuner.model, rows)) < 1e3
    assert task.evaluate(tuner.model, rows).f1 == 100

    tasks.save(task, tuner.model, tmp_path / "saved")
    again, model = tasks.load(tmp_path / "saved")
    assert again.get_config() == task.get_config()
    answers = again.predict(model, rows)
    assert [answer.text for answer in answers] == [answer.text for answer in found]
    assert model.evaluate(again.dataset(rows), return_dict=True, verbose=0)["accuracy"] == 1.0


def test_a_model_saved_by_keras_keeps_loss_and_metric(answering, rows, tmp_path):
    task, tuner = answering
    model = tuner.model
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    data = task.dataset(rows, shuffle=False)
    assert again.evaluate(data, verbose=0) == pytest.approx(model.evaluate(data, verbose=0))


def test_a_tokenizer_without_special_tokens(rows):
    texts = [*rows["context"], *rows["question"]]
    tokenizer = Tokenizer.train(
        texts, 300, min_frequency=1, special_tokens=["<|endoftext|>"], progress=False
    )
    assert tokenizer.cls_id is None
    task = make(tokenizer, max_length=48)
    backbone = encoder(tokenizer, models.transformer_decoder, name="decoder")
    with pytest.raises(ValueError, match="only 32 positions"):
        task.build(backbone)
    task = make(tokenizer)
    tuner = fit(task, backbone, rows, 3)
    assert task.evaluate(tuner.model, rows).exact_match == 100


def test_loss_is_the_mean_of_two_cross_entropies(words, rows):
    task = make(words)
    model = task.build(encoder(words))
    dataset = task.dataset(rows, batch_size=24, shuffle=False)
    x, positions = next(iter(dataset.as_numpy_iterator()))
    assert positions.shape == (24, 2)
    logits = keras.ops.convert_to_numpy(model(x, training=False)).astype("float64")
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    right = [chances[np.arange(24), positions[:, side], side] for side in (0, 1)]
    expected = -np.log(right).mean()
    assert model.evaluate(dataset, return_dict=True, verbose=0)["loss"] == pytest.approx(
        expected, rel=1e-4
    )


def test_long_contexts_in_windows(words, rows):
    """The answer is found in the window that holds it, whatever stands before."""
    task = make(words, max_length=24, stride=12)
    filler = story(zip(list(PEOPLE)[2:], THINGS, strict=False))
    long = {**rows, "context": [], "answers": []}
    for context, answers in zip(rows["context"], rows["answers"], strict=True):
        before = " ".join([filler.replace("Cleo", "Dan")] * 3) + " "
        long["context"].append(before + context)
        starts = [start + len(before) for start in answers["answer_start"]]
        long["answers"].append({**answers, "answer_start": starts})
    dataset = task.dataset(long, shuffle=False)
    assert dataset.alignment.questions == 24
    assert dataset.alignment.windows > 48
    assert dataset.alignment.exact == 24
    model = task.build(encoder(words))
    one = task.predict(model, long, batch_size=7, n_best=4)
    two = task.predict(model, long, batch_size=50, n_best=4)
    for first, second in zip(one, two, strict=True):
        assert first.text == second.text
        assert first.probability == pytest.approx(second.probability, rel=1e-3)
    questions, contexts = long["question"], long["context"]
    windows = task.windows(questions, contexts)
    batch = windows.batch(np.arange(len(windows.lengths)), 24, words.pad_id)
    batch.pop("segment_ids")
    decoded = task.decode(model.predict(batch, verbose=0), windows, contexts, n_best=4)
    assert [answer.text for answer in decoded] == [answer.text for answer in one]
    with pytest.raises(ValueError, match=r"windows, but logits of 3"):
        task.decode(np.zeros((3, 24, 2)), windows, contexts)


def test_segment_ids_go_where_they_are_taken(words, rows):
    x, _ = next(iter(make(words).dataset(rows)))
    assert set(x) == {"token_ids", "padding_mask", "segment_ids"}
    task = make(words)
    task.build(encoder(words))
    x, _ = next(iter(task.dataset(rows)))
    assert set(x) == {"token_ids", "padding_mask"}


def test_what_does_not_fit_the_tokens_is_counted(words, rows, capsys):
    context = rows["context"][0] + " Her favourite is crimson\u200b, \u200b and " + "a red hat " * 9
    at = context.index("Her")
    whole = {"text": [context[at:]], "answer_start": [at]}
    part = {"text": ["e"], "answer_start": [context.index("red") + 1]}
    nothing = {"text": ["\u200b"], "answer_start": [context.index("\u200b and")]}
    for answers in (whole, part, nothing):
        rows["id"].append(f"odd {len(rows['id'])}")
        rows["question"].append("What colour has Ada?")
        rows["context"].append(context)
        rows["answers"].append(answers)
    for _ in range(2):  # the second time out of the store
        report = make(words).dataset(rows).alignment
        assert (report.questions, report.exact, report.widened, report.left_out) == (27, 24, 1, 2)
        assert report.first_widened == ("odd 25",)
        assert report.first_left_out == ("odd 24", "odd 26")
        assert "2 are LEFT OUT" in capsys.readouterr().err
    rows.pop("id")
    assert make(words).dataset(rows).alignment.first_left_out == ("row 24", "row 26")
    only = {name: values[24:25] for name, values in rows.items()}
    with pytest.raises(ValueError, match="No answer is in a window"):
        make(words).dataset(only)
    task = make(words)
    assert task.evaluate(task.build(encoder(words)), rows).inexact == 2


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows["question"].__setitem__(7, " "), "Row 7: the question is empty"),
        (lambda rows: rows["context"].__setitem__(7, ""), "Row 7: the context is empty"),
        (lambda rows: rows["context"].__setitem__(7, None), "Row 7: the context is None"),
        (lambda rows: rows["answers"].__setitem__(7, None), "Row 7 has no answer.*unanswerable"),
        (
            lambda rows: rows["answers"].__setitem__(7, {"text": ["red"], "answer_start": [0]}),
            "Row 7: the answer 'red' is not at answer_start=0",
        ),
        (lambda rows: rows.update(answer=rows.pop("answers")), 'Did you mean "answer"'),
    ],
)
def test_bad_rows(words, rows, spoil, message):
    spoil(rows)
    with pytest.raises(ValueError, match=message):
        make(words).dataset(rows)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 4}, "max_length must be an int of at least 8"),
        ({"stride": 32}, "stride=10. Received: stride=32"),
        ({"max_answer_length": 0}, "max_answer_length must be"),
        ({"null_position": "middle"}, "null_position must be"),
        ({"f1_by": "letters"}, "f1_by must be"),
        ({"tokenizer": "bert"}, "Tokenizer.train"),
    ],
)
def test_task_refuses(words, options, message):
    with pytest.raises(ValueError, match=message):
        make(options.pop("tokenizer", words), **options)


def test_predict_and_tuning_refuse(words, rows):
    task = make(words)
    model = task.build(encoder(words))
    assert task.predict(model, []) == []
    with pytest.raises(ValueError, match=r"a list of \(question, context\)"):
        task.predict(model, ["What?"])
    with pytest.raises(ValueError, match="n_best must be"):
        task.predict(model, rows, n_best=0)
    with pytest.raises(ValueError, match="no threshold to tune"):
        task.tune_threshold(model, rows)
    with pytest.raises(ValueError, match="24 questions that all have one"):
        make(words, unanswerable=True).tune_threshold(model, rows)
    with pytest.raises(ValueError, match="first build it on a backbone"):
        QuestionAnswering().dataset(rows)


def test_outputs_that_are_nan_are_no_answers(words):
    task = make(words, unanswerable=True)
    model = task.build(encoder(words))
    model.set_weights([np.full_like(each, np.nan) for each in model.get_weights()])
    rows = stories(unanswerable=True)
    calls = (
        lambda: task.predict(model, rows),
        lambda: task.evaluate(model, rows),
        lambda: task.tune_threshold(model, rows),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r"NaN or infinite.*lower the learning rate"):
            call()
    assert task.null_threshold == 0.0
    windows = task.windows(rows["question"][:1], rows["context"][:1])
    logits = np.zeros((1, 32, 2))
    logits[:, windows.lengths[0] :] = np.nan  # Padding is not looked at.
    assert task.decode(logits, windows, rows["context"][:1], n_best=2)[0].probability > 0
    logits[0, 1, 0] = np.inf
    with pytest.raises(ValueError, match="NaN or infinite"):
        task.decode(logits, windows, rows["context"][:1])
