import pytest

from keras_finetune.data.chat_template import render_chat

USER = {"role": "user", "content": "Hello"}


def test_blocks_leave_no_line_behind():
    template = (
        "{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}"
    )
    assert render_chat(template, [USER, USER]) == "Hello\nHello\n"


def test_special_tokens_and_the_prompt():
    template = "{{ bos_token }}{% if add_generation_prompt %}>{% endif %}"
    assert render_chat(template, [USER], special_tokens={"bos_token": "<s>"}) == "<s>"
    found = render_chat(
        template, [USER], special_tokens={"bos_token": "<s>"}, add_generation_prompt=True
    )
    assert found == "<s>>"


def test_what_the_template_refuses():
    template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ValueError, match=r"\['user'\]: roles must alternate"):
        render_chat(template, [USER])


@pytest.mark.parametrize("template", ["{% for %}", "{{ messages[0].content.nothing.at_all }}"])
def test_a_template_that_is_none(template):
    with pytest.raises(ValueError, match="The chat template does not take"):
        render_chat(template, [USER])


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
    ],
)
def test_the_sandbox_holds(template):
    with pytest.raises(ValueError, match=r"unsafe|undefined"):
        render_chat(template, [USER])
