"""Records survive reading and writing; whatever is not a record becomes one error with file and line."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ia_cli import jsonl, paths
from ia_cli.errors import IAError

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
# Small on purpose: what matters is the kinds of values, and generating large ones takes seconds.
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4
)
objects = st.dictionaries(st.text(), values)


def read_all(data: bytes) -> list:
    return [record for _, record in jsonl.read(io.BytesIO(data), "x.jsonl")]


def test_what_could_steer_a_terminal_is_escaped():
    line = jsonl.encode({"a": "\x9b31m \u202e \u2028 \x7f caf\u00e9 \U0001f600"})
    assert line == b'{"a": "\\u009b31m \\u202e \\u2028 \\u007f caf\xc3\xa9 \xf0\x9f\x98\x80"}\n'


def test_a_file_is_replaced_whole_and_no_link_is_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").write_text("old")
    (tmp_path / "out.tmp").symlink_to("precious")
    paths.replace(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_text() == "new" and (tmp_path / "precious").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.tmp", "precious"]
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * n)
    taken = tmp_path / ".out.00000000.tmp"
    taken.write_text("somebody's")
    with pytest.raises(FileExistsError):
        paths.replace(tmp_path / "out", b"newer")
    assert taken.read_text() == "somebody's" and (tmp_path / "out").read_text() == "new"


@settings(deadline=None, max_examples=50)
@given(st.lists(objects, max_size=2))
def test_any_object_survives_in_order(records):
    stream = io.BytesIO()
    writer = jsonl.Writer(stream)
    for record in records:
        writer.write(record)
    back = read_all(stream.getvalue())
    assert json.dumps(back) == json.dumps(records)  # dumps: the order of fields counts, and 1 is not 1.0
    assert stream.getvalue().count(b"\n") == len(records)


@settings(deadline=None, max_examples=50)
@given(objects)
def test_ascii_escapes_mean_the_same(record):
    """A lone surrogate can only be written as an escape; jq and others may write any character so."""
    line = json.dumps(record, ensure_ascii=True).encode() + b"\n"
    (back,) = read_all(line)
    assert back == record
    assert read_all(jsonl.encode(back)) == [record]


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_no_bytes_raise(data):
    for where, record in jsonl.read(io.BytesIO(data), "x.jsonl"):
        assert where.startswith("x.jsonl:")
        assert isinstance(record, dict | IAError)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "Expecting property name"),
        (b"[1]", "not an object"),
        (b"null", "not an object"),
        (b"\xff\xfe{}", "utf-8"),
        (b"\x00", "Expecting value"),
        (b'{"a": "\x00"}', "control character"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": -Infinity}', "-Infinity is not a finite number"),
        (b'{"a": 1e999}', "1e999 is not a finite number"),
        (b'{"a":' * 70 + b"1" + b"}" * 70, "nested too deeply"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": ' + b"7" * 6000 + b"}", "is a number of 6000 digits"),
    ],
)
def test_what_is_no_record_is_one_line_with_a_remedy(line, reason):
    """...and the lines around it are read all the same."""
    first, error, last = read_all(b'{"id": 1}\n' + line + b'\n\n{"id": 2}')
    assert (first, last) == ({"id": 1}, {"id": 2})
    text = str(error)
    assert text.startswith("x.jsonl:2: not a JSON record: ") and reason in text
    assert text.endswith("; each line must be one JSON object") and "\n" not in text and len(text) < 200


def test_line_numbers_count_blank_lines():
    assert [where for where, _ in jsonl.read(io.BytesIO(b"\n  \n{}\r\n\n{}"), "f")] == ["f:3", "f:5"]


def test_endless_line_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(jsonl, "MAX_LINE", 100)
    long = b'{"a": "' + b"x" * 1000 + b'"}\n'
    error, after = read_all(long + b'{"b": 1}\n')
    assert "longer than" in str(error) and after == {"b": 1}


def test_nan_is_never_written():
    stream = io.BytesIO()
    with pytest.raises(ValueError, match="JSON compliant"):
        jsonl.Writer(stream).write({"loss": float("nan")})
    assert stream.getvalue() == b""


def test_own_stdout_takes_the_descriptor_from_everyone_else():
    code = """
import os, sys
from ia_cli import jsonl, paths, stdout
with stdout.own_stdout() as stream:
    print("a library prints")
    os.write(1, b"and C code too\\n")
    os.system("echo so does a child")
    jsonl.Writer(stream).write({"id": "1"})
print("and after it, all is as before")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == '{"id": "1"}\nand after it, all is as before\n'
    assert sorted(done.stderr.splitlines()) == ["a library prints", "and C code too", "so does a child"]


def test_paths_follow_the_folder_of_the_records(tmp_path, monkeypatch):
    """Wherever it is read from, and after the folder has moved, a path leads to the same place in it."""
    monkeypatch.chdir(tmp_path)
    said = paths.relativise("run/organisms/a", tmp_path / "run")
    assert said == "organisms/a"
    assert paths.relativise(str(tmp_path / "run/organisms/a"), tmp_path / "run") == "organisms/a"
    assert paths.relativise("organisms/a", tmp_path / "run") == "../organisms/a"
    assert paths.relativise("/elsewhere/a", tmp_path / "run") == "/elsewhere/a"
    assert paths.resolve("/elsewhere/a", tmp_path / "run") == "/elsewhere/a"
    monkeypatch.chdir("/")
    assert os.path.abspath(paths.resolve(said, tmp_path / "moved")) == str(tmp_path / "moved/organisms/a")


def test_place_knows_files_and_redirections(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    file = tmp_path / "run/x.jsonl"
    file.touch()
    assert paths.place(Path("run/x.jsonl"), sys.stdin, "stdin") == paths.Location("run/x.jsonl", file)
    with open(file) as redirected:
        found = paths.place(None, redirected, "stdin")
    assert found.folder == (file.parent if sys.platform == "linux" else tmp_path)
    reader, writer = os.pipe()
    with open(reader) as pipe:
        assert paths.place(None, pipe, "stdin") == paths.Location("stdin", None)
    os.close(writer)
    os.mkfifo(tmp_path / "run/pipe")  # as `<(jq ...)` is one, by a name that is no place to start from
    assert paths.place(Path("run/pipe"), sys.stdin, "stdin") == paths.Location("run/pipe", None)
    new = tmp_path / "run/new.jsonl"
    assert paths.place(Path("run/new.jsonl"), sys.stdin, "stdin") == paths.Location("run/new.jsonl", new)
