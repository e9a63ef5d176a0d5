import json
import os
import subprocess
import sys

import pytest

from keras_finetune import data, load_model, models, tasks, tuning


def test_round_trip_in_a_fresh_process_of_another_locale(tokenizer, backbone, tmp_path):
    task = tasks.TextClassification(["差", "好"], tokenizer, max_length=32)
    model = task.build(backbone)
    tasks.save(task, model, tmp_path / "saved")
    expected = task.predict(model, ["a moving film"])[0].probabilities
    code = (
        "import sys, json, keras_finetune as kft\n"
        "task, model = kft.tasks.load(sys.argv[1])\n"
        "kft.tasks.save(task, model, sys.argv[1])\n"
        "print(json.dumps(task.predict(model, ['a moving film'])[0].probabilities))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "saved")]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, **ascii_only}
    )
    assert json.loads(result.stdout.splitlines()[-1]) == pytest.approx(expected, abs=1e-6)
    assert tasks.load(tmp_path / "saved")[0].labels == task.labels


def test_every_task_comes_back_as_it_was(tokenizer, backbone, tmp_path):
    given = [
        tasks.TextClassification(
            ["a", "b"], tokenizer, max_length=9, text=("x", "y"), label="z", multi_label=True
        ),
        tasks.LanguageModeling(tokenizer, max_length=7, text="body"),
        tasks.InstructionTuning(tokenizer, max_length=9, messages="x", chat_template="t"),
        tasks.MaskedLanguageModeling(tokenizer, max_length=7, mask_rate=0.3, whole_word=True),
        tasks.Summarization(
            tokenizer, max_length=9, max_target_length=5, text="x", summary="y", separator=" = "
        ),
        tasks.Translation(
            tokenizer, source="x", target="y", label_smoothing=0.2, decoder_only=True, start_id=3
        ),
    ]
    for number, task in enumerate(given):
        tasks.save(task, backbone, tmp_path / str(number))
        again, _ = tasks.load(tmp_path / str(number))
        assert type(again) is type(task)
        assert again.get_config() == task.get_config()
        assert again.tokenizer.fingerprint == tokenizer.fingerprint


def test_special_tokens_and_chat_template_come_back(backbone, tmp_path):
    marks = ["<|im_end|>", "<|endoftext|>"]
    trained = data.Tokenizer.train(
        ["hello"] * 4, vocab_size=300, special_tokens=marks, progress=False
    )
    roles = {"pad": "<|im_end|>", "eos": "<|im_end|>", "cls": "<|endoftext|>"}
    given = data.Tokenizer(trained._tokenizer, roles, "{{ messages }}")
    task = tasks.InstructionTuning(given, max_length=9)
    folder = tasks.save(task, backbone, tmp_path / "saved")
    found = tasks.load(folder)[0].tokenizer
    assert {role: found.special_tokens[role] for role in roles} == roles
    assert found.chat_template == "{{ messages }}"
    for name in ("tokenizer_config.json", "special_tokens_map.json"):  # as packages once were
        (folder / name).unlink()
    assert tasks.load(folder)[0].tokenizer.vocab_size == given.vocab_size


def test_a_folder_that_is_no_task(tmp_path):
    with pytest.raises(ValueError, match=r"lacks task\.json, tokenizer\.json, model\.keras"):
        tasks.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"task": "Trans', "is no JSON"), ("[1]", "the key 'task'"), ("{}", "the key 'task'")],
)
def test_a_description_that_was_cut_off(text, said, tmp_path):
    for name in ("tokenizer.json", "model.keras"):
        (tmp_path / name).touch()
    (tmp_path / "task.json").write_text(text)
    with pytest.raises(ValueError, match=f"task.json' .*{said}"):
        tasks.load(tmp_path)


def test_a_folder_is_for_another_function_than_load_model(tmp_path):
    with pytest.raises(ValueError, match=r"the folder '.*tasks\.load"):
        load_model(tmp_path)


def test_a_place_that_is_no_folder(tokenizer, backbone, tmp_path):
    task = tasks.TextClassification(["bad", "good"], tokenizer, max_length=8)
    model = task.build(backbone)
    with pytest.raises(ValueError, match=r"directory must be a path.* Received: None\.$"):
        tasks.save(task, model, None)
    with pytest.raises(ValueError, match=r"directory must be a path.* The model comes before it"):
        tasks.save(task, str(tmp_path), model)
    (tmp_path / "file.csv").touch()
    for place in ("file.csv", "file.csv/deeper/saved"):
        with pytest.raises(ValueError, match=r'file\.csv" is a file; a directory is needed'):
            tasks.save(task, model, tmp_path / place)


def test_a_save_that_is_broken_off(tokenizer, backbone, tmp_path, monkeypatch):
    """Never a new model beside the labels of an older task."""
    first, second = (
        tasks.TextClassification(labels, tokenizer, max_length=8)
        for labels in (["bad", "good"], ["good", "bad"])
    )
    tasks.save(first, first.build(backbone), tmp_path)
    model = second.build(backbone)

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(data.Tokenizer, "save", full)
        with pytest.raises(OSError, match="No space"):
            tasks.save(second, model, tmp_path)
    assert tasks.load(tmp_path)[0].labels == ["bad", "good"]
    for count in range(1, 5):
        replaced, replace = [], os.replace

        def few(*paths, replaced=replaced, replace=replace, count=count):
            if ".unfinished-" in str(paths[0]) and "unfinished" not in str(paths[1]):
                if len(replaced) == count:
                    raise KeyboardInterrupt
                replaced.append(paths)
            replace(*paths)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", few)
            with pytest.raises(KeyboardInterrupt):
                tasks.save(second, model, tmp_path)
        assert len(replaced) == count
        with pytest.raises(ValueError, match=r"lacks task\.json"):
            tasks.load(tmp_path)
    tasks.save(second, model, tmp_path)
    assert tasks.load(tmp_path)[0].labels == ["good", "bad"]
    assert not list(tmp_path.glob(".*"))


def test_a_loaded_model_can_be_scored_and_tuned_at_once(tokenizer, tmp_path):
    texts = ["a moving film", "a dull film"] * 20
    task = tasks.LanguageModeling(tokenizer, max_length=8)
    model = task.build(models.lstm_encoder(tokenizer.vocab_size, hidden_dim=16))
    before = task.evaluate(model, texts)
    task, model = tasks.load(tasks.save(task, model, tmp_path / "saved"))
    assert task.evaluate(model, texts) == pytest.approx(before, abs=1e-4)
    tuner = tuning.FineTuner(model)
    tuner.compile("adamw", learning_rate=1e-3)
    assert tuner.fit(task.dataset(texts), verbose=0).history["loss"]
