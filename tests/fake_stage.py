"""`python -m tests.fake_stage implant ...` is `ia` with a stage that does nothing, to test the rest."""

import contextlib
import errno
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click

from ia_cli import options, records
from ia_cli.errors import IAError


@click.command()
@options.stage(reads="behavior", writes="organism")
@options.seed
@options.out("Folder for the adapters.")
@click.option("--fail", multiple=True, help="Ids that fail.")
@click.option("--crash", default="", help="Raise this.")
@click.option("--swallow", type=int, help="Get this signal, where a library takes no notice.")
@click.option("--sleep", default=0.0, help="Seconds between records.")
def command(
    stage, seed: int, out: Path, fail: tuple[str, ...], crash: str, swallow: int | None, sleep: float
) -> None:
    """Train one model organism per behavior."""
    todo = stage.pending(stage.read())
    print("a library prints on standard output")
    if crash == "IAError":
        raise IAError("the gate was not met", remedy="lower it", exit_code=3)
    if crash == "OSError":
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory", "here")
    if swallow:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(swallow)
    if crash:
        raise RuntimeError(crash)
    for record in todo:
        organism = {**record, "kind": "organism", "adapter": str(out / record["id"]), "seed": seed}
        if record["id"] in fail:
            organism = records.with_error(organism, ValueError("loss is not finite"))
        stage.write(organism)
        time.sleep(sleep)


FAKE = {"ia_cli.commands.implant": SimpleNamespace(command=command)}

if __name__ == "__main__":
    from ia_cli.main import main

    sys.modules.update(FAKE)
    main()
