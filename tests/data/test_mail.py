from email.message import EmailMessage

import pytest

from keras_finetune.data.mail import mail_text


def test_subject_and_plain_body_without_attachment() -> None:
    mail = EmailMessage()
    mail["Subject"] = "Grüße aus 北京"
    mail["From"] = "a@example.org"
    mail.set_content("Wie geht es?\n")
    mail.add_alternative("<p>HTML twin</p>", subtype="html")
    mail.add_attachment(b"secret", maintype="application", subtype="octet-stream")
    assert mail_text(mail.as_bytes()) == "Grüße aus 北京\n\nWie geht es?"


def test_html_only_loses_its_tags() -> None:
    mail = EmailMessage()
    mail["Subject"] = "Offer"
    page = "<html><style>p {color: red}</style><p>Buy&nbsp;now &amp; save</p><br>Today"
    mail.set_content(page, subtype="html")
    assert mail_text(mail.as_bytes()) == "Offer\n\nBuy now & save\nToday"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b"just a line", "just a line"),
        (b"Subject: x\nContent-Type: text/plain; charset=nonsense\n\nna\xefve", "x\n\nnaïve"),
        (b"Content-Type: text/plain; charset=utf-8\n\nno subject", "no subject"),
        (b"Subject: =?utf-8?b?broken?=\n\nbody", None),
        (b"Subject: x\nContent-Type: multipart/mixed\n\nno boundary", None),
        (b"Subject: x\nContent-Type: text/plain\nContent-Transfer-Encoding: base64\n\n!!", None),
    ],
)
def test_broken_mail_is_read_as_far_as_it_goes(data: bytes, text: str | None) -> None:
    found = mail_text(data)
    assert text is None or found == text
