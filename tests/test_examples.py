"""Every example runs in its small setting, offline, and says something."""

import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_finetune as kft

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(EXAMPLES.glob("*.py"))
QUICKSTART = EXAMPLES / "quickstart.py"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))

# What each script must print; any other must at least print something.
PRINTED = {
    "01_article": ["As the article has it", "val_accuracy", "│ dense     │ head ", "accuracy  "],
    "02_news": ["Rows: the offline corpus", "│ token_embedding ", "macro F1", "Test accuracy: "],
    "03_mail_spam": ["│ ham ", "│ spam ", "Test: accuracy ", "spam: Congratulations!!!"],
    "04_chinese": ["│ 天气 ", "Test accuracy: ", "银行的股价又跌了"],
    "05_pretrain_language_model": ["before, ", "Saved to ", "Loaded again: perplexity "],
    "06_pretrained": ["Test accuracy, two blocks tuned", "Loaded again"],
    "08_summarization": ["lead-1: ROUGE-1 ", "model:  ROUGE-1 ", "rouge-score:"],
    "09_translation": ["retrieval: BLEU ", "tok:zh", "model: "],
    "07_question_answering": ["Alignment: 10 questions", "│ all ", "Q: What is `", "A: "],
    "10_pretrain_then_fine_tune": ["word_perplexity on held-out", "│ pretrained ", "scratch "],
    "11_instruction_tuning": ["Before: perplexity", "After: perplexity", "question: "],
    "quickstart": ["Perplexity on held-out text", "fine_tuned", "Written to"],
}


# Of no token for some, too long for others.
LINES = ["\x01", "why " * 2_000, "What does the function return?"]


class Typed(io.StringIO):
    """Lines, and then Ctrl-C."""

    def __next__(self):
        line = self.readline()
        if not line:
            raise KeyboardInterrupt
        return line


def by_name(path):
    return path.stem


@pytest.mark.slow
@pytest.mark.parametrize("script", [s for s in SCRIPTS if s != QUICKSTART], ids=by_name)
def test_script_runs(script, tmp_path, monkeypatch, capsys):
    """In this process, which has imported TensorFlow."""
    typed = ["--interactive"] if "--interactive" in script.read_text(encoding="utf-8") else []
    keras.utils.clear_session()  # Layers are numbered from the start, as in a fresh process.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), "--quick", *typed])
    monkeypatch.setattr(sys, "stdin", Typed("\n".join([*LINES, ""])))
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out
    assert said.strip()
    for text in PRINTED.get(script.stem, []):
        assert text in said
    if typed:  # A line for each answer, which so small a model may leave empty, or what was wrong.
        assert said.partition("an empty line ends:")[2].count("\n") > len(LINES)


@pytest.mark.slow
def test_a_backbone_that_has_a_head_of_its_own(tmp_path, monkeypatch, capsys):
    texts = kft.data.load("python_docs/summarization")[0].head(200).column("document")
    tokenizer = kft.data.Tokenizer.train(texts, 600, "bpe")
    backbone = kft.models.transformer_decoder(
        600, 1, 2, 16, positions="rotary", norm="rms", activation="swiglu", use_bias=False
    )
    model = kft.models.language_model(backbone, tied=False)
    kft.save_pretrained(model, tmp_path / "llama", tokenizer=tokenizer)
    script = str(EXAMPLES / "08_summarization.py")
    arguments = ["--quick", "--backbone", str(tmp_path / "llama"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(script, run_name="__main__")
    assert "model:  ROUGE-1 " in capsys.readouterr().out
    assert (tmp_path / "out" / "task.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "05_pretrain_language_model",
        "06_pretrained",
        "08_summarization",
        "09_translation",
        "quickstart",
    ],
)
def test_results_that_cannot_be_written_cost_no_training(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").write_text("a file")
    script = str(EXAMPLES / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, "--quick", "--out", str(tmp_path / "taken")])
    with pytest.raises(FileExistsError, match="taken"):
        runpy.run_path(script, run_name="__main__")
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("08_summarization", "--num-beams", "0"),
        ("09_translation", "--num-beams", "0"),
        ("10_pretrain_then_fine_tune", "--epochs", "1"),
    ],
)
def test_an_option_that_is_too_low_costs_no_training(name, option, value, monkeypatch, capsys):
    script = str(EXAMPLES / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [script, option, value])
    with pytest.raises(SystemExit):
        runpy.run_path(script, run_name="__main__")
    said = capsys.readouterr()
    assert not said.out
    assert f"{option} must be" in said.err


@pytest.mark.slow
def test_quickstart_runs_in_a_process_of_its_own(tmp_path):
    result = subprocess.run(
        [sys.executable, str(QUICKSTART), "--quick"],
        cwd=tmp_path,
        # Compiled as it is for users, not as in tests.
        env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"} | {"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3_000:]
    for text in PRINTED["quickstart"]:
        assert text in result.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=by_name)
def test_script_says_what_to_expect(script):
    text = script.read_text(encoding="utf-8")
    docstring = text.split('"""')[1]
    assert "--quick" in docstring
    assert "Expect" in docstring


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)
def test_notebook_runs(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    shown = [
        set(output.get("data", {}))
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    assert sum("image/png" in kinds for kinds in shown) == 2, "history and confusion matrix"
