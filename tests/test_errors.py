"""What a user reads where input cannot be used."""

import pytest

from jaxhep.errors import BadInput, nearest, one_line, one_of

KINDS = ("huber", "l1", "l2")


def test_a_known_value_comes_back():
    assert one_of("l1", KINDS, "config.loss.kind") == "l1"
    assert one_of("l1", {"l1": 1}, "config.loss.kind") == "l1"
    assert one_of("l1", iter(KINDS), "config.loss.kind") == "l1"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("hubert", "config.loss.kind is 'hubert', wanted one of huber, l1, l2 (nearest: 'huber')"),
        ("zzz", "config.loss.kind is 'zzz', wanted one of huber, l1, l2"),
        ("", "config.loss.kind is '', wanted one of huber, l1, l2"),
        (3, "config.loss.kind is 3, wanted one of huber, l1, l2"),
    ],
)
def test_an_unknown_value_is_said_in_one_line_with_what_was_wanted(value, message):
    with pytest.raises(BadInput) as raised:
        one_of(value, KINDS, "config.loss.kind")
    assert str(raised.value) == message


def test_no_name_is_suggested_where_none_is_close():
    assert nearest("trian", ["train", "test"]) == " (nearest: 'train')"
    assert nearest("q", ["train", "test"]) == ""


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (KeyboardInterrupt(), 130, "interrupted: the same command goes on where it stopped\n"),
        (BadInput("a\n b"), 2, "error: a b\n"),
        (OSError(), 2, "error: OSError\n"),
    ],
)
def test_a_verb_ends_in_one_line(error, status, text, capsys):
    def verb():
        raise error

    assert one_line(verb) == status
    assert capsys.readouterr().err == text
