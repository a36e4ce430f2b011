"""fairseq's dictionaries, held against what fairseq 0.12.2 does with the same lines."""

from pathlib import Path

import pytest

from luthier.errors import InputError
from luthier.interop.fairseq.dictionary import UNK, Dictionary


def written(folder: Path, text: str) -> Path:
    path = folder / "dict.txt"
    path.write_bytes(text.encode())
    return path


def test_the_first_line_of_a_dictionary_has_the_id_4(tmp_path: Path):
    read = Dictionary.read(written(tmp_path, "the 7\nhel@@ 3\n"))
    assert read.symbols == ("<s>", "<pad>", "</s>", "<unk>", "the", "hel@@")
    assert read.encode(["hel@@", "the", "nowhere"]) == [5, 4, UNK]


def test_a_dictionary_is_written_as_it_was_read(tmp_path: Path):
    text = "the 7\na b 3\n\u3000 2\nthe 0 #fairseq:overwrite\nmadeupword0000 0\n"
    Dictionary.read(written(tmp_path, text)).write(tmp_path / "again.txt")
    assert (tmp_path / "again.txt").read_bytes() == text.encode()


def test_a_symbol_that_overwrites_is_written_as_the_later_one(tmp_path: Path):
    read = Dictionary.read(written(tmp_path, "the 7\na 1\nthe 0 #fairseq:overwrite\n"))
    assert read.encode(["the"]) == [6]
    assert read.symbols[4] == "the"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("the 7\nthe 2\n", r'dict\.txt:2: the symbol "the" stands twice'),
        ("the 7\n<s> 2\n", r'dict\.txt:2: the symbol "<s>" stands twice'),
        ("the 7\n\na 1\n", r"dict\.txt:2: found"),
        ("the\n", r"dict\.txt:1: found"),
        ("the many\n", r"dict\.txt:1: found"),
        ("", "empty"),
    ],
)
def test_lines_that_fairseq_refuses_are_refused_with_their_number(tmp_path: Path, text: str, said: str):
    with pytest.raises(InputError, match=said):
        Dictionary.read(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path):
    (tmp_path / "dict.txt").write_bytes(b"the 7\n\xff\xfe 1\n")
    with pytest.raises(InputError, match="byte 6 is not UTF-8"):
        Dictionary.read(tmp_path / "dict.txt")
    with pytest.raises(InputError, match="cannot be read"):
        Dictionary.read(tmp_path / "nowhere.txt")


def test_a_new_dictionary_goes_by_frequency_and_fills_up_to_a_multiple_of_8():
    built = Dictionary.build([["b", "a", "c"], ["c", "</s>"], ["a", "d"]])
    assert built.symbols[4:] == ("a", "c", "b", "d")
    assert built.counts[4:] == (2, 2, 1, 1)
    more = Dictionary.build([["a"]])
    assert more.symbols[4:] == ("a", "madeupword0000", "madeupword0001", "madeupword0002")
