"""The types of the parameters of commands: what click checks before a command begins."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from ia_cli.settings import LARGEST_RANK


class Real(click.FloatRange):
    """A number in a range, and neither NaN nor infinite, which compare with a bound as nobody expects."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        """What --help says of the range: nothing where there is none."""
        return "" if self.min is None and self.max is None else super()._describe_range()


class Name(click.ParamType):
    """A text; an empty one, which a shell makes of a variable without a value, is refused."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value.strip():
            self.fail("it is empty", param, ctx)
        return value


class Source(Name):
    """A directory, or the name of something on the Hub; a shell completes the directory."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="dir")]


class Line(click.types.StringParamType):
    """One of several texts, which stand in lines of their own in the environment."""

    envvar_list_splitter = "\n"


class Place(click.Path):
    """A pathlib.Path; an empty one is refused, and so is a symbolic link that leads back to itself."""

    def __init__(self, **kinds: bool) -> None:
        super().__init__(path_type=Path, **kinds)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if value == "":
            self.fail("the path is empty", param, ctx)
        path = super().convert(value, param, ctx)
        try:
            path.resolve()
        except FileNotFoundError:  # the current folder is gone
            raise
        except (OSError, RuntimeError):
            self.fail(f"{value} leads back to itself", param, ctx)
        return path


class File(Place):
    """A file to write; what ends in a slash names a folder, and its slash would be lost."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if isinstance(value, str) and value.endswith("/") and not Path(value).is_dir():
            self.fail(f"{value} ends in a slash, and a file is needed", param, ctx)
        return super().convert(value, param, ctx)


class Names(click.ParamType):
    """Names with commas between, of the `known` if given, in their order."""

    name = "names"

    def __init__(self, known: Iterable[str] | None = None) -> None:
        self.known = known

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        known = names if self.known is None else tuple(self.known)
        if unknown := [name for name in names if name not in known]:
            self.fail(f"{unknown[0]!r} is not one of {', '.join(known)}", param, ctx)
        return tuple(name for name in known if name in names)


RANK = click.IntRange(1, LARGEST_RANK)  # of a LoRA


def of_64_bits(ctx: click.Context, param: click.Parameter, value: int) -> int:
    """An integer that every reader of JSON can read again."""
    if not -(2**63) <= value < 2**63:
        raise click.BadParameter("more than 64 bits")
    return value
