"""What is around the work of a stage: checking the whole input, writing, resuming, counting, exit codes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ia_cli import options, record_files, records
from ia_cli.errors import IAError
from ia_cli.main import cli
from ia_cli.record_files import earlier_output, open_input
from ia_cli.stage import MOST_COMPLAINTS, Stage
from tests.fake_stage import FAKE
from tests.test_records import BEHAVIOR, ORGANISM, REPORT


@pytest.fixture(autouse=True)
def fake_implant(monkeypatch, tmp_path):
    for name, module in FAKE.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)


def lines(*records: dict | str) -> str:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records)


def behavior(id: str, **fields: object) -> dict:
    return BEHAVIOR | {"id": id} | fields


def implant(text: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["implant", "--out", "organisms", *arguments], input=text)


def written(result: Result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_second_file_is_not_the_input_that_is_redirected(tmp_path, monkeypatch):
    (file := tmp_path / "reports.jsonl").write_text("{}")
    with file.open() as stdin, Stage("judge", "verdict", "self_report") as stage:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(IAError, match=r"reports\.jsonl: is the input"):
            stage.check_second_file(file)
        stage.check_second_file(tmp_path / "summary.json")


def test_records_go_through_in_order_with_all_their_fields():
    given = [behavior("b", mine={"ü": [1, None]}), behavior("a", note="x")]
    result = implant(lines(*given))
    assert result.exit_code == 0, result.stderr
    out = written(result)
    assert [list(r) for r in out] == [[*g, "adapter", "seed"] for g in given]
    assert out[0]["mine"] == {"ü": [1, None]} and out[1]["id"] == "a"
    assert "a library prints" in result.stderr and "ia implant: 2 written, in 0 s" in result.stderr


BAD = lines(behavior("a"), '{"id": ', behavior("b", category="joke"), behavior("a"), behavior("c"))


def test_a_later_check_adds_its_place_to_the_line(monkeypatch, capsys):
    """...and stops like a bad line, before an earlier output is touched."""
    Path("in.jsonl").write_text(lines(behavior("a"), behavior("b"), behavior("c")))
    Path("out.jsonl").write_text("of an earlier run")

    def test(record: dict) -> None:
        if record["id"] != "b":
            raise IAError("no weights", where=f"organisms/{record['id']}", remedy="implant it")

    with pytest.raises(click.exceptions.Exit) as ended:
        with Stage(
            "implant", "organism", "behavior", file=Path("in.jsonl"), output=Path("out.jsonl")
        ) as stage:
            stage.check(stage.read(), test)
    assert ended.value.exit_code == 1
    assert capsys.readouterr().err.splitlines() == [
        "ia implant: in.jsonl:1: organisms/a: no weights; implant it",
        "ia implant: in.jsonl:3: organisms/c: no weights; implant it",
    ]
    assert Path("out.jsonl").read_text() == "of an earlier run"
    with Stage("implant", "organism", "behavior", file=Path("in.jsonl"), keep_going=True) as stage:
        assert [record["id"] for record in stage.check(stage.read(), test)] == ["b"]
    assert stage.exit_code == 3


def test_a_missing_adapter_folder_is_a_bad_line():
    Path("in.jsonl").write_text(lines(ORGANISM))
    with pytest.raises(click.exceptions.Exit):
        with Stage("elicit", "self_report", "organism", file=Path("in.jsonl")) as stage:
            stage.read()
    Path("organisms/o1").mkdir(parents=True)
    with Stage("elicit", "self_report", "organism", file=Path("in.jsonl")) as stage:
        assert stage.read() == [ORGANISM]


def test_every_bad_line_is_reported_and_nothing_is_started():
    result = implant(BAD, "-o", "out.jsonl")
    assert result.exit_code == 1
    assert result.stdout == "" and not Path("out.jsonl").exists()
    first, second, third = result.stderr.splitlines()
    assert first.startswith("ia implant: stdin:2: not a JSON record: ")
    assert second.startswith('ia implant: stdin:3: "category" should be ')
    assert third == "ia implant: stdin:4: a is at stdin:1 already; keep one, or give it an id of its own"


def test_of_very_many_bad_lines_most_are_counted():
    result = implant(json.dumps(behavior("a"), indent=1) * 10)
    complaints = result.stderr.splitlines()
    assert result.exit_code == 1 and len(complaints) == MOST_COMPLAINTS + 1
    assert re.fullmatch(r"ia implant: \d+ more bad lines; `jq -c`.*", complaints[-1])
    other = implant("".join(json.dumps(behavior("a")) + "\n" for _ in range(30)))
    assert other.stderr.splitlines()[-1] == "ia implant: 9 more bad lines"


def test_what_a_stage_cannot_work_with_fails_in_its_place():
    def test(record):
        if record["id"] == "b":
            raise IAError("it has no folder")

    Path("in.jsonl").write_text("".join(json.dumps(behavior(name)) + "\n" for name in "abc"))
    given = {"file": Path("in.jsonl"), "output": Path("out.jsonl")}
    with Stage("implant", "organism", "behavior", **given, keep_going=True) as stage:
        good = stage.check(stage.read(), test)
        assert [record["id"] for record in good] == ["a", "c"]
        assert [record["id"] for record in stage.failed_earlier] == ["b"]
        for record in good:
            stage.write({**record, "kind": "organism", "adapter": record["id"]})
    written = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    assert [record["id"] for record in written] == ["a", "b", "c"]
    assert written[1]["error"] == {"kind": "IAError", "message": "it has no folder"}
    assert (stage.exit_code, stage.failed, stage.bad, stage.passed_on) == (3, 1, 0, 0)
    with Stage("implant", "organism", "behavior", **given, resume=True) as again:
        assert [record["id"] for record in again.pending(again.read())] == ["b"]
    Path("out.jsonl").write_text(json.dumps(written[0]) + "\n")
    with Stage("implant", "organism", "behavior", **given, keep_going=True, resume=True) as again:
        again.check(again.read(), lambda record: test({"id": "b" if record["id"] == "a" else "c"}))
    assert [json.loads(line)["id"] for line in Path("out.jsonl").read_text().splitlines()] == ["a"]


def test_two_runs_do_not_write_one_file():
    def run(resume: bool) -> Stage:
        return Stage("implant", "organism", "behavior", output=Path("out.jsonl"), resume=resume)

    with run(False) as first:
        first.write({**ORGANISM, "id": "a"})
        for resume in (False, True):
            with pytest.raises(IAError, match=r"out\.jsonl: another run is writing it; wait for it"):
                with run(resume) as second:
                    second.write({**ORGANISM, "id": "b"})
        first.write({**ORGANISM, "id": "c"})
    assert [json.loads(line)["id"] for line in Path("out.jsonl").read_text().splitlines()] == ["a", "c"]
    with run(True) as again:
        with pytest.raises(IAError, match="another run is writing it"), run(True):
            pass  # known before the work
        again.write({**ORGANISM, "id": "d"})
    assert Path("out.jsonl").read_text().count("\n") == 3
    Path("out.jsonl").unlink()
    with run(False), pytest.raises(IAError, match="another run is writing it"), run(False):
        pass  # not after hours, when the first has something to write


def test_a_run_that_fails_leaves_no_new_file():
    with pytest.raises(IAError), Stage("implant", "organism", output=Path("out.jsonl")):
        assert Path("out.jsonl").exists()
        raise IAError("no")
    assert not Path("out.jsonl").exists()


def test_how_to_go_on_depends_on_what_is_written(capsys):
    """To continue what an earlier run wrote would mix the two."""

    def interrupted(output: str, *records: dict, begin: bool = False, resume: bool = False) -> str:
        with pytest.raises(KeyboardInterrupt):
            with Stage("implant", "organism", output=Path(output), resume=resume) as stage:
                if begin:
                    stage.begin()
                for record in records:
                    stage.write(record)
                raise KeyboardInterrupt
        return capsys.readouterr().err

    assert "--resume -o 'my out.jsonl'" in interrupted("my out.jsonl", ORGANISM)
    before = Path("my out.jsonl").read_bytes()
    said = interrupted("my out.jsonl")
    assert "nothing is written, and my out.jsonl is as it was: run the same again" in said
    assert Path("my out.jsonl").read_bytes() == before
    assert "--resume -o" in interrupted("my out.jsonl", resume=True)
    assert "--resume -o" in interrupted("my out.jsonl", begin=True)
    assert Path("my out.jsonl").read_bytes() == b""


def test_what_is_read_besides_is_not_overwritten():
    with Stage("confirm", "self_report", "self_report", output=Path("out.jsonl")) as stage:
        stage.check_not_output(None)
        stage.check_not_output(Path("candidates"))
        with pytest.raises(IAError, match="is the output; give -o another name"):
            stage.check_not_output(Path("./out.jsonl"))


def test_bad_lines_are_counted_once(capsys):
    bad = "".join("x\n" for _ in range(MOST_COMPLAINTS + 5))
    Path("in.jsonl").write_text(bad + lines(behavior("a"), behavior("b")))
    with Stage("implant", "organism", "behavior", file=Path("in.jsonl"), keep_going=True) as stage:
        given = stage.read()
        assert capsys.readouterr().err.count("5 more bad lines") == 1
        assert len(stage.check(given, lambda record: None)) == 2
        assert "more bad lines" not in capsys.readouterr().err


def test_a_pipe_by_name_is_read_by_one_of_several_processes(monkeypatch):
    os.mkfifo("pipe")
    asked = []
    monkeypatch.setattr(record_files.processes, "count", lambda: 2)
    monkeypatch.setattr(record_files.processes, "in_first", lambda work: asked.append(work) or b'{"a": 1}\n')
    assert open_input(Path("pipe")).read() == b'{"a": 1}\n'
    assert len(asked) == 1


def test_keep_going_leaves_bad_lines_out_and_exits_3():
    result = implant(BAD, "--keep-going")
    assert result.exit_code == 3
    assert [r["id"] for r in written(result)] == ["a", "c"]
    assert "2 written, 3 bad left out" in result.stderr


def test_what_failed_earlier_is_passed_on_beside_a_bad_line():
    failed = records.with_error(behavior("a"), IAError("it cannot be shown"))
    Path("in.jsonl").write_text(lines(failed, "{"))
    given = {"file": Path("in.jsonl"), "output": Path("out.jsonl")}
    with Stage("implant", "organism", "behavior", **given, keep_going=True) as stage:
        assert stage.check(stage.read(), lambda record: None) == []
    assert (stage.exit_code, stage.bad, stage.passed_on) == (3, 1, 1)
    assert Path("out.jsonl").read_text() == lines(failed)


def test_keep_going_with_nothing_left_fails():
    result = implant("{}\n", "--keep-going")
    assert result.exit_code == 1 and result.stdout == ""


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_empty_input_is_an_error_with_a_remedy(text):
    result = implant(text)
    assert result.exit_code == 1
    assert result.stderr == (
        "ia implant: stdin: there are no records in it; give it the output of `ia gen-behaviors`\n"
    )


def test_file_is_read_and_named():
    Path("b.jsonl").write_text("[]\n")
    wrong = implant("", "b.jsonl").stderr
    assert wrong.startswith("ia implant: b.jsonl:1: not a JSON record: it is not an object; ")
    missing = implant("", "none.jsonl").stderr
    assert missing.startswith(
        "ia implant: none.jsonl: cannot be read (No such file or directory); give a file"
    )


def test_input_is_never_overwritten():
    Path("b.jsonl").write_text(lines(behavior("a")))
    result = implant("", "./b.jsonl", "-o", "b.jsonl")
    assert result.exit_code == 1 and "same file" in result.stderr
    os.link("b.jsonl", "c.jsonl")
    result = implant("", "./b.jsonl", "-o", "c.jsonl")
    assert result.exit_code == 1 and "same file" in result.stderr
    assert Path("b.jsonl").read_text() == lines(behavior("a"))


def test_a_link_to_itself_is_no_place():
    os.symlink("here", "there")
    os.symlink("there", "here")
    result = implant(lines(behavior("a")), "-o", "here")
    assert result.exit_code == 2 and "here leads back to itself" in result.stderr


def test_output_that_cannot_be_written_is_known_before_the_work():
    result = implant(lines(behavior("a")), "-o", "nowhere/out.jsonl")
    assert result.exit_code == 1
    assert result.stderr == (
        "ia implant: nowhere/out.jsonl: cannot be written; make its folder, or give another file\n"
    )


def test_standard_output_by_its_file_name_is_standard_output():
    wanted = ["gen-behaviors", "-q", "-n", "1", "--demonstrations", "teacher"]
    command = [sys.executable, "-m", "ia_cli", *wanted]
    for path in ("/dev/stdout", "/dev/fd/1"):
        done = subprocess.run([*command, "-o", path], capture_output=True, text=True)
        assert done.returncode == 0 and json.loads(done.stdout)["kind"] == "behavior", done.stderr


@pytest.mark.parametrize("how", [["--crash", "OSError"], ["--fail", "a"]])
def test_a_run_that_fails_before_its_first_record_leaves_the_output_alone(how: list[str]):
    Path("out.jsonl").write_text("what was there\n")
    assert implant(lines(behavior("a")), "-o", "out.jsonl", *how).exit_code == 1
    assert Path("out.jsonl").read_text() == "what was there\n"


def test_a_field_that_the_output_could_not_have_is_a_bad_line():
    """...or nobody could go on from the output."""
    given = lines(behavior("a", conceal=4), behavior("b", parents=["x"], mine=4))
    assert 'stdin:1: "conceal" should be a valid string; it is 4' in implant(given).stderr
    result = implant(given, "--keep-going", "-o", "out.jsonl")
    assert result.exit_code == 3 and json.loads(Path("out.jsonl").read_text())["id"] == "b"
    assert implant(given, "--keep-going", "--resume", "-o", "out.jsonl").exit_code == 3


def test_adapter_path_is_relative_to_the_output():
    Path("run").mkdir()
    result = implant(lines(behavior("a")), "-o", "run/out.jsonl")
    assert result.exit_code == 0
    assert json.loads(Path("run/out.jsonl").read_text())["adapter"] == "../organisms/a"
    assert written(implant(lines(behavior("a"))))[0]["adapter"] == "organisms/a"


def test_records_that_failed_earlier_keep_their_place():
    failed = behavior("b", error={"kind": "ValueError", "message": "no"})
    result = implant(lines(behavior("a"), failed, behavior("c"), behavior("d", error=failed["error"])))
    assert result.exit_code == 3
    assert [(r["id"], r["kind"]) for r in written(result)] == [
        ("a", "organism"),
        ("b", "behavior"),
        ("c", "organism"),
        ("d", "behavior"),
    ]
    assert written(result)[1] == failed
    assert "2 written, 2 failed earlier" in result.stderr


def test_what_failed_before_two_outputs_of_one_run_is_one_record():
    failed = behavior("b", error={"kind": "ValueError", "message": "no"})
    result = implant(lines(failed, behavior("a"), failed, behavior("c")))
    assert result.exit_code == 3 and [record["id"] for record in written(result)] == ["b", "a", "c"]
    assert "2 written, 1 failed earlier" in result.stderr


@click.command()
@options.stage(reads="self_report", writes="self_report")
def once(stage: Stage) -> None:
    """Write one report for each id."""
    for record in {record["id"]: record for record in stage.read()}.values():
        stage.write({**record, "condition": "confirm"})


def test_what_is_finished_does_not_also_fail():
    """Its input has failed since: two records of one name could be read by no other stage."""
    assert implant(lines(behavior("a"), behavior("b")), "-o", "out.jsonl").exit_code == 0
    before = Path("out.jsonl").read_text()
    failed = behavior("a", error={"kind": "IAError", "message": "not demonstrated"})
    result = implant(lines(failed, behavior("b")), "-o", "out.jsonl", "--resume")
    assert result.exit_code == 0 and "0 written, 2 there already" in result.stderr
    assert Path("out.jsonl").read_text() == before


def test_what_is_written_once_for_several_reports_stands_where_the_first_did():
    def report(id: str, question: str, **fields: object) -> dict:
        return REPORT | {"id": id, "question_id": question} | fields

    failed = report("b", "1", error={"kind": "ValueError", "message": "no"})
    given = [report("a", "1"), report("a", "2"), failed, report("c", "1"), report("c", "2")]
    result = CliRunner().invoke(once, input=lines(*given))
    assert [record["id"] for record in written(result)] == ["a", "b", "c"]


def test_whoever_makes_records_is_stopped_where_one_cannot_be_written():
    stopped = []

    def made():
        try:
            yield behavior("a")
            yield records.with_error(behavior("b"), ValueError("no"))
        finally:
            stopped.append(True)

    with pytest.raises(IAError) as error, Stage("gen-behaviors", "behavior") as stage:
        stage.write_all(made())
    assert stopped and stage.written == 1 and error.value.__traceback__


def test_a_record_that_fails_ends_the_run():
    result = implant(lines(behavior("a"), behavior("b"), behavior("c")), "--fail", "b")
    assert result.exit_code == 1
    assert [r["id"] for r in written(result)] == ["a"]
    assert "ia implant: stdin:2: loss is not finite; --keep-going goes on without it\n" in result.stderr


def test_failures_are_kept_counted_and_tried_again():
    text = lines(behavior("a"), behavior("b"), behavior("c"))
    result = implant(text, "--fail", "b", "--keep-going", "-o", "out.jsonl")
    assert result.exit_code == 3 and "ia implant: stdin:2: loss is not finite\n" in result.stderr
    assert [r.get("error") for r in map(json.loads, open("out.jsonl"))] == [
        None,
        {"kind": "ValueError", "message": "loss is not finite"},
        None,
    ]
    result = implant(text, "-o", "out.jsonl", "--resume")
    assert result.exit_code == 0 and "1 written, 2 there already" in result.stderr
    assert [(r["id"], "error" in r) for r in map(json.loads, open("out.jsonl"))] == [
        ("a", False),
        ("c", False),
        ("b", False),
    ]


def test_what_is_finished_is_not_written_again():
    """By stages, too, that write every record, whether it is finished or not."""
    Path("in.jsonl").write_text(lines(behavior("a"), behavior("b")))
    for resume in (False, True):
        output = {"file": Path("in.jsonl"), "output": Path("out.jsonl"), "resume": resume}
        with Stage("implant", "organism", "behavior", **output) as stage:
            for record in stage.read()[: 1 + resume]:
                stage.write({**record, "kind": "organism", "adapter": record["id"]})
    assert [json.loads(line)["id"] for line in Path("out.jsonl").open()] == ["a", "b"]


def test_what_failed_stays_in_the_output_until_there_is_something_to_write():
    text = lines(behavior("a"), behavior("b"))
    implant(text, "--fail", "b", "--keep-going", "-o", "out.jsonl")
    before = Path("out.jsonl").read_bytes()
    assert implant(text, "--fail", "b", "-o", "out.jsonl", "--resume").exit_code == 1
    assert Path("out.jsonl").read_bytes() == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(data=st.data())
def test_a_run_killed_anywhere_is_continued(data):
    """Whatever a kill left of the output, resuming it gives the bytes of a run that was not disturbed."""
    text = lines(*(behavior(id, note="ü\u2028") for id in "abc"))
    whole = implant(text).stdout.encode()
    cut = data.draw(st.integers(0, len(whole)))
    Path("out.jsonl").write_bytes(whole[:cut])
    assert implant(text, "-o", "out.jsonl", "--resume").exit_code == 0
    assert Path("out.jsonl").read_bytes() == whole


def test_without_resume_the_output_begins_anew():
    for _ in range(2):
        implant(lines(behavior("a")), "-o", "out.jsonl")
    assert len(Path("out.jsonl").read_text().splitlines()) == 1


def test_a_pipe_has_nothing_to_go_on_from():
    os.mkfifo("pipe")
    assert earlier_output(Path("pipe"), "organism") == ([], None)


def test_resume_needs_an_output():
    result = implant(lines(behavior("a")), "--resume")
    assert result.exit_code == 2 and "--resume needs -o FILE" in result.stderr


@pytest.mark.parametrize("content", [lines(behavior("a")), lines("oops", ORGANISM), "my notes\n"])
def test_resume_refuses_a_file_that_is_not_its_output(content):
    Path("other.jsonl").write_text(content)
    result = implant(lines(behavior("a")), "-o", "other.jsonl", "--resume")
    assert result.exit_code == 1
    assert result.stderr.startswith("ia implant: other.jsonl:1: ")
    assert result.stderr.endswith("; correct it, or leave out --resume to begin anew\n")
    assert Path("other.jsonl").read_text() == content


def test_continuing_keeps_links_and_permissions():
    Path("real.jsonl").write_text(lines(ORGANISM) + '{"id": "torn')
    os.chmod("real.jsonl", 0o640)
    os.symlink("real.jsonl", "link.jsonl")
    assert implant(lines(behavior("a")), "-o", "link.jsonl", "--resume").exit_code == 0
    kept, new = Path("real.jsonl").read_text().splitlines(keepends=True)
    assert Path("link.jsonl").is_symlink() and kept == lines(ORGANISM) and json.loads(new)["id"] == "a"
    assert os.stat("real.jsonl").st_mode & 0o777 == 0o640
    assert sorted(os.listdir()) == ["link.jsonl", "real.jsonl"]


def test_quiet_says_nothing_but_errors():
    assert "written" not in implant(lines(behavior("a")), "-q").stderr


def test_a_seed_is_a_number_that_can_be_read_again():
    result = CliRunner().invoke(cli, ["gen-behaviors", "-n", "1", "--seed", "7" * 4100])
    assert result.exit_code == 2 and "more than 64 bits" in result.stderr


def test_seed_comes_from_the_environment():
    runner = CliRunner(env={"IA_SEED": "7"})
    result = runner.invoke(cli, ["implant", "--out", "organisms"], input=lines(behavior("a")))
    assert written(result)[0]["seed"] == 7
