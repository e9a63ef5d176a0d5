import io
import sys

import pytest

from keras_finetune.data.progress import track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_log_gets_a_line_at_start_and_at_end(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(track(range(1500), "Encoding")) == list(range(1500))
    lines = log.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0] == "Encoding (1,500) ..."
    assert lines[1].startswith("Encoding: 1,500 in ")


def test_unknown_total_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    assert list(track(iter("abc"), "Reading")) == ["a", "b", "c"]
    assert log.getvalue().splitlines()[0] == "Reading ..."


@pytest.mark.parametrize("total", [3, None])
def test_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, total: int | None) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    assert list(track(iter("abc"), "Reading", total=total)) == ["a", "b", "c"]
    assert "Reading" in screen.getvalue()
    assert "3/3" in screen.getvalue() or "3/?" in screen.getvalue()


def test_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    list(track([1], "Reading"))
    assert capsys.readouterr().out == ""


def test_an_error_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())

    def broken():
        yield 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        list(track(broken(), "Reading"))
