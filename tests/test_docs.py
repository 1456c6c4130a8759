"""The documentation says what the program does: man pages and examples against the commands."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

import ia_cli
from ia_cli import main, rates, schema

MAN = Path(__file__).parent.parent / "man"
PAGES = sorted(path.name for path in MAN.iterdir())


def command(name: str) -> click.Command:
    return main.cli.get_command(click.Context(main.cli), name)


def page(name: str) -> str:
    """The source of a man page, its escaped hyphens and backslashes as they are read."""
    return (MAN / name).read_text("utf-8").replace(r"\-", "-").replace(r"\e", "\\")


def items(text: str) -> dict[str, str]:
    """What follows each `.It` line of a page that lists options or fields, by that line."""
    parts = re.split(r"^\.It (.*)\n", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def flags(line: str) -> set[str]:
    """The options in a line such as "Fl o , Fl Fl output Ar file"."""
    long = re.findall(r"\bFl Fl ([\w-]+)", line)
    short = re.findall(r"(?<!Fl )\bFl (\w)\b", line)
    return {f"--{name}" for name in long} | {f"-{name}" for name in short}


def options(of: click.Command) -> list[click.Option]:
    context = click.Context(of, **main.cli.context_settings)
    return [parameter for parameter in of.get_params(context) if isinstance(parameter, click.Option)]


def test_the_package_says_where_everything_is() -> None:
    lines = [line for line in ia_cli.__doc__.splitlines() if line.startswith("    ")]
    told = [name for line in lines for name in re.split(r"\s{2,}", line.strip())[0].split(", ")]
    package = Path(ia_cli.__file__).parent
    folders = [f"{path.name}/" for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"]
    modules = [path.stem for path in package.glob("*.py") if path.stem != "__init__"]
    assert sorted(told) == sorted(folders + modules)


@pytest.mark.parametrize("name", [None, *main.COMMANDS])
def test_man_page_and_help_have_the_same_options(name: str | None) -> None:
    text = page(f"ia-{name}.1" if name else "ia.1")
    every = options(command(name) if name else main.cli)
    known = {flag for option in every for flag in (*option.opts, *option.secondary_opts)}
    assert set().union(*map(flags, items(text))) == known


@pytest.mark.parametrize("name", main.COMMANDS)
def test_man_page_has_the_defaults_of_the_help(name: str) -> None:
    described = {flag: text for line, text in items(page(f"ia-{name}.1")).items() for flag in flags(line)}
    for option in options(command(name)):
        if option.show_default:
            default = f"{option.default:g}" if isinstance(option.default, float) else str(option.default)
            words = re.split(r"[\s;]+", described[option.opts[-1]])
            assert default in [word.rstrip(".,") for word in words], option.opts


@pytest.mark.parametrize("name", main.COMMANDS)
def test_options_have_the_same_name_in_the_environment(name: str) -> None:
    for option in options(command(name)):
        if not option.is_eager:
            assert option.name in {flag.lstrip("-").replace("-", "_") for flag in option.opts}


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_short_help_is_the_same_everywhere(name: str) -> None:
    short = main.COMMANDS[name]
    assert command(name).help.splitlines()[0] == short
    assert items(page("ia.1"))[f"Xr ia-{name} 1"].startswith(short)
    title = re.search(r"^\.Nd (.*)$", page(f"ia-{name}.1"), re.M)[1]
    assert title.lower() == short.rstrip(".").lower()


def examples(text: str) -> list[list[str]]:
    """The arguments of every `ia` in the lines of a help or man page that are shell commands."""
    text = text.replace("\\\n", " ")
    lines = re.findall(r"^(?:\.Dl)? *(?:jq .*\| )?ia +((?!STAGE)[a-z-]+ .*)$", text, re.M)
    found = []
    for line in lines:
        words = shlex.shlex(line, posix=True, punctuation_chars="<>|")
        words.whitespace_split = True
        arguments = list(words)
        end = next((i for i, word in enumerate(arguments) if word in ("<", ">", "|")), len(arguments))
        found.append(arguments[:end])
    return found


def parse(arguments: list[str]) -> None:
    name, *rest = arguments
    command(name).make_context(name, rest, parent=click.Context(main.cli), **main.cli.context_settings)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_example_of_a_help_parses(name: str) -> None:
    found = examples(command(name).help)
    assert found and all(arguments[0] == name for arguments in found)
    for arguments in found:
        parse(arguments)


@pytest.mark.parametrize("name", [name for name in PAGES if name.endswith(".1")])
def test_every_example_of_a_man_page_parses(name: str) -> None:
    found = examples(page(name).partition(".Sh EXAMPLES")[2])
    assert found
    for arguments in found:
        parse(arguments)


def test_every_command_of_the_readme_parses() -> None:
    found = examples((MAN.parent / "README.md").read_text("utf-8"))
    assert len(found) >= 9
    for arguments in found:
        parse(arguments)


def test_an_example_with_a_wrong_option_does_not_parse() -> None:
    [arguments] = examples("  ia judge --colour red < reports.jsonl > verdicts.jsonl\n")
    assert arguments == ["judge", "--colour", "red"]
    with pytest.raises(click.UsageError):
        parse(arguments)


@pytest.mark.parametrize("name", PAGES)
def test_man_pages_refer_to_man_pages_that_exist(name: str) -> None:
    for title, section in re.findall(r"\bXr (\S+) (\d)", page(name)):
        assert f"{title}.{section}" in PAGES


def test_every_field_of_a_record_is_documented() -> None:
    documented = {word for line in items(page("ia-records.5")) for word in re.findall(r"\w+", line)}
    for model in schema.MODELS.values():
        assert set(model.model_fields) <= documented
    summary = rates.summarise([rates.brief({"split": "train", "condition": "ia", "error": {}})])
    assert set(summary) | set(summary["rows"][0]) <= documented


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
@pytest.mark.parametrize("name", PAGES)
def test_man_pages_are_good_mdoc(name: str) -> None:
    result = subprocess.run(
        ["groff", "-mdoc", "-Tutf8", "-ww", "-z", MAN / name], capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stderr == ""
