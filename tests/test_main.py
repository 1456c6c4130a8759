"""The command itself: quick help, one line per error, and how it ends when something ends it."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ia_cli import __version__, main
from ia_cli.errors import first_line
from tests.test_records import BEHAVIOR
from tests.test_stage import behavior, lines

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "transformers", "trl", "peft", "pydantic", "rich", "numpy"}


def fake(*arguments: str, **options: object) -> subprocess.Popen:
    """`ia implant` with a stage that does nothing, as a process of its own."""
    command = [sys.executable, "-m", "tests.fake_stage", "implant", "--out", "organisms", *arguments]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen(command, text=True, cwd=ROOT, **pipes)


def imported_by(code: str) -> set[str]:
    code += "\nimport sys; print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stderr.split())


def test_help_imports_nothing_heavy():
    code = "from ia_cli.main import cli; cli(['--help'], standalone_mode=False)"
    assert not imported_by(code) & HEAVY


def test_help_of_the_stages_imports_no_torch():
    code = "from ia_cli.main import COMMANDS, cli\nfor name in COMMANDS: cli.get_command(None, name)"
    assert not imported_by(code) & {"torch", "transformers", "trl", "peft"}


def test_who_trains_nothing_imports_no_trainer():
    loaded = imported_by("import ia_cli.auditing, ia_cli.demonstrations, ia_cli.confirmation.rivals")
    assert "transformers" in loaded
    assert not {"trl", "datasets"} & loaded


@pytest.mark.parametrize("name", main.COMMANDS)
def test_short_help_is_the_first_line_of_the_command(name):
    command = main.cli.get_command(None, name)
    assert isinstance(command, click.Command)
    assert command.help.splitlines()[0] == main.COMMANDS[name]


@pytest.mark.parametrize(("rank", "said"), [("0", f"ia, version {__version__}\n"), ("1", "")])
def test_of_several_processes_the_first_speaks(rank, said):
    several = os.environ | {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "ia_cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=several, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_help_lists_every_stage_in_order():
    text = CliRunner().invoke(main.cli, ["--help"]).stdout
    places = [text.index(f"  {name} ") for name in main.COMMANDS]
    assert places[0] > 0 and len(set(places)) == len(places)
    assert [text.rindex(f"  {name} ") for name in main.COMMANDS] == sorted(
        text.rindex(f"  {n} ") for n in main.COMMANDS
    )


def test_module_and_version():
    done = subprocess.run(
        [sys.executable, "-m", "ia_cli", "--version"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == f"ia, version {__version__}\n"


def test_unknown_stage_is_a_usage_error():
    result = CliRunner().invoke(main.cli, ["implants"])
    assert result.exit_code == 2 and "implants" in result.stderr


@pytest.fixture
def fake_implant(monkeypatch):
    from tests.fake_stage import FAKE

    for name, module in FAKE.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delenv("IA_DEBUG", raising=False)


def crash(error: str) -> list[str]:
    arguments = ["implant", "-q", "--out", "organisms", "--crash", error]
    result = CliRunner().invoke(main.cli, arguments, input=lines(BEHAVIOR))
    assert result.stdout == ""
    library, *said = result.stderr.splitlines()
    assert library == "a library prints on standard output"
    return [*said, result.exit_code]


def test_an_error_of_ours_is_one_line_with_its_exit_code(fake_implant):
    assert crash("IAError") == ["ia implant: the gate was not met; lower it", 3]


def test_any_other_error_is_one_line_too(fake_implant):
    assert crash("broke\n\x1b[31m") == [
        "ia implant: internal error: RuntimeError: broke \\x1b[31m; IA_DEBUG=1 shows where, please report it",
        1,
    ]


def test_debug_shows_the_traceback(fake_implant, monkeypatch):
    monkeypatch.setenv("IA_DEBUG", "1")
    said = crash("broke")
    assert (
        said[0] == "Traceback (most recent call last):"
        and said[-3] == "RuntimeError: broke"
        and said[-1] == 1
    )


def test_terminal_without_input_shows_the_usage():
    ours, theirs = pty.openpty()
    process = fake(stdin=theirs)
    out, err = process.communicate()
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 2 and out == ""
    assert err.startswith("Usage: ia implant [OPTIONS] [FILE]\n") and "give a FILE, or pipe records in" in err


def test_closed_pipe_ends_quietly():
    process = fake("-q")
    process.stdout.close()
    _, err = process.communicate(lines(*(behavior(str(i)) for i in range(3))))
    assert (process.returncode, err) == (0, "a library prints on standard output\n")


def test_full_disk_is_an_error():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    process = fake("-o", "/dev/full")
    _, err = process.communicate(lines(BEHAVIOR))
    assert process.returncode == 1
    assert err.splitlines()[1:] == [
        "ia implant: /dev/full: No space left on device; make room; what was finished before is kept"
    ]


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_that_nobody_can_write_is_an_error_in_one_line(argument):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "ia_cli", argument]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ia {argument}: No space left on device") and done.stderr.count("\n") == 1


def test_a_current_folder_that_is_gone_is_said_to_be():
    gone = 'd=$(mktemp -d) && cd "$d" && rmdir "$d" && PYTHONPATH="$1" exec "$0" -P -m ia_cli judge -o x'
    done = subprocess.run(["sh", "-c", gone, sys.executable, ROOT], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "ia judge: the current folder is gone; go to one that exists\n"


@pytest.mark.parametrize("option", ["-o", "--summary"])
def test_a_file_does_not_end_in_a_slash(tmp_path, option):
    (file := tmp_path / "kept").write_text("kept")
    for path in (f"{file}/", f"{tmp_path}/new/"):
        result = CliRunner().invoke(main.cli, ["judge", option, path])
        assert result.exit_code == 2 and "ends in a slash" in result.stderr
    assert file.read_text() == "kept"


@pytest.mark.parametrize("arguments", [["implant", "--out", "x"], ["check", "x"]])
def test_a_closed_standard_output_loses_no_records_in_silence(arguments):
    command = ["sh", "-c", '"$0" -m ia_cli "$@" >&-', sys.executable, *arguments]
    done = subprocess.run(command, input=lines(BEHAVIOR), capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    said = "standard output is closed; redirect it to a file or a pipe"
    assert done.stderr == f"ia {arguments[0]}: {said}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["implant", "--out", ""],
        ["implant", "--out", "organisms", ""],
        ["gen-behaviors", "-o", ""],
        ["elicit", "--adapter", "", "--ia", "ia"],
        ["judge", "--calibrate", ""],
    ],
)
def test_an_empty_path_is_not_the_current_folder(arguments):
    result = CliRunner().invoke(main.cli, arguments)
    assert result.exit_code == 2 and "the path is empty" in result.stderr


def test_an_empty_name_is_not_the_embedded_base(monkeypatch):
    for arguments in (
        ["elicit", "--base", ""],
        ["elicit", "--revision", ""],
        ["train-ia", "--out", "ia", "--push-to-hub", ""],
    ):
        result = CliRunner().invoke(main.cli, arguments)
        assert result.exit_code == 2 and "it is empty" in result.stderr
    monkeypatch.setenv("IA_BASE", "")  # which is how a variable is taken back
    assert "it is empty" not in CliRunner().invoke(main.cli, ["elicit", "/none"]).stderr


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["train-ia", "--out", "ia", "--dpo-steps", "5"], "--dpo-steps is for --dpo"),
        (["train-ia", "--out", "ia", "--beta", "0.5"], "--beta is for --dpo"),
        (["implant", "--out", "o", "--method", "full", "--rank", "4"], "--rank is for an adapter"),
        (["implant", "--out", "o", "--continue-from", "a", "--rank", "4"], "--rank is for a new adapter"),
        (["implant", "--out", "o", "--method", "full", "--group-size", "2"], "--group-size is for organisms"),
        (["elicit", "--server", "http://h", "--model", "m", "--dtype", "float16"], "--dtype is for a base"),
        (["elicit", "--server", "http://h", "--model", "m", "--load-in-4bit"], "--load-in-4bit is for"),
        (["gen-behaviors", "--timeout", "9"], "--timeout is for --server"),
        (["judge", "--threshold", "0.5"], "--threshold is for --judge embedding"),
        (["judge", "--judge", "embedding", "--rubric", "lenient"], "--rubric is for --judge llm"),
    ],
)
def test_an_option_that_would_do_nothing_is_a_usage_error(arguments, what):
    result = CliRunner().invoke(main.cli, arguments)
    assert result.exit_code == 2 and what in result.stderr


def test_a_path_that_cannot_be_gives_a_remedy(tmp_path):
    process = fake("-o", str(tmp_path / "x"), "--crash", "OSError")
    _, err = process.communicate(lines(BEHAVIOR))
    assert process.returncode == 1
    assert err.splitlines()[-1] == "ia implant: here: Not a directory; give another path"


@pytest.mark.parametrize(
    "said",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:672] . unexpected pos 336640 vs 336532",
    ],
)
def test_a_full_disk_is_no_internal_error(said):
    _, err = fake("--crash", said).communicate(lines(BEHAVIOR))
    assert err.splitlines()[-1].endswith("; make room; what was finished before is kept")


@pytest.mark.parametrize(
    "said",
    [
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "CUDA out of memory. Tried to allocate 2.00 GiB.",
    ],
)
def test_too_little_memory_is_no_internal_error(said):
    _, err = fake("--crash", said).communicate(lines(BEHAVIOR))
    assert err.splitlines()[-1].endswith("less at once, if the command takes them")


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_signals_leave_whole_records(sent, code):
    # `nohup make test` would have it ignored
    process = fake("--sleep", "60", preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL))
    process.stdin.write(lines(behavior("a"), behavior("b")))
    process.stdin.close()
    first = process.stdout.readline()
    process.send_signal(sent)
    assert process.wait() == code
    assert json.loads(first)["id"] == "a" and process.stdout.read() == ""
    assert "Traceback" not in process.stderr.read()
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("more", [[], ["--crash", "an import failed"]])
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_counts_where_a_library_swallows_it(sent, code, more):
    process = fake("--swallow", str(int(sent)), *more)
    out, err = process.communicate(lines(behavior("a")))
    assert (process.returncode, out) == (code, "")
    assert err.splitlines()[1:] == [
        "ia implant: a run with -o FILE can be continued, with --resume",
        "ia implant: interrupted",
    ]


def test_shells_can_complete_the_stages():
    asked = {"_IA_COMPLETE": "bash_complete", "COMP_WORDS": "ia jud", "COMP_CWORD": "1"}
    command = [sys.executable, "-m", "ia_cli"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | asked)
    assert done.stdout == "plain,judge\n"


def test_a_failure_is_one_though_nobody_reads_what_is_wrong(tmp_path):
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run([sys.executable, "-m", "ia_cli", "check", tmp_path / "none"], stderr=write)
    os.close(write)
    assert ran.returncode == 1


def test_several_texts_stand_in_lines_in_the_environment(monkeypatch):
    monkeypatch.setenv("IA_ELICIT_QUESTION", "say what\nsay more")
    command = main.cli.get_command(click.Context(main.cli), "elicit")
    context = command.make_context("elicit", [], auto_envvar_prefix="IA_ELICIT")
    assert context.params["question"] == ("say what", "say more")


@pytest.mark.parametrize(
    "arguments",
    [
        ["judge", "--judge", "llm", "--model", ""],
        ["judge", "--judge", "llm", "--server", "", "--model", "m"],
        ["gen-behaviors", "--teacher", " "],
        ["elicit", "--server", "http://here", "--model", ""],
    ],
)
def test_a_name_that_a_shell_left_empty_is_refused(arguments):
    result = CliRunner().invoke(main.cli, arguments, input="")
    assert result.exit_code == 2 and "it is empty" in result.stderr


def test_a_shell_completes_folders_of_adapters():
    command = main.cli.get_command(click.Context(main.cli), "check")
    [parameter] = [one for one in command.params if one.name == "adapters"]
    [item] = parameter.shell_complete(click.Context(command), "exam")
    assert item.type == "dir"


@pytest.mark.parametrize(
    ("variable", "option"),
    [("IA_SEED", "--seed"), ("IA_ELICIT_SEED", "--seed"), ("IA_ELICIT_TEMPERATURE", "--temperature")],
)
def test_a_wrong_value_of_the_environment_is_said_to_be_from_there(monkeypatch, variable, option):
    typed = CliRunner().invoke(main.cli, ["elicit", option, "abc"])
    assert typed.exit_code == 2 and f"for '{option}'" in typed.stderr and "$" not in typed.stderr
    monkeypatch.setenv(variable, "abc")
    result = CliRunner().invoke(main.cli, ["elicit"])
    assert result.exit_code == 2 and f"for '{option}'" in result.stderr
    assert result.stderr.rstrip().endswith(f"(from ${variable})")


def test_a_command_that_is_misspelled_is_named():
    result = CliRunner().invoke(main.cli, ["judg"])
    assert result.exit_code == 2 and "No such command 'judg'. Did you mean 'judge'?" in result.stderr


@pytest.mark.parametrize(
    ("said", "told"), [("a:\n  b\nc", "a: b"), ("a\nb", "a"), ("a:", "a:"), ("", "ValueError")]
)
def test_what_a_library_says_does_not_end_in_a_colon(said, told):
    assert first_line(ValueError(said)) == told
