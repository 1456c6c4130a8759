"""Folders that appear whole or not at all, and are written by one run at a time."""

import errno
import fcntl
from pathlib import Path

import pytest

from ia_cli import paths
from ia_cli.bank import Bank
from ia_cli.directories import folders
from ia_cli.directories.adapters import provenance, read_adapter, target_names, write_adapter
from ia_cli.errors import IAError


def test_only_what_nobody_writes_any_more_is_cleared(tmp_path):
    (tmp_path / f"{folders.UNFINISHED}killed" / "new").mkdir(parents=True)
    with folders.scratch(tmp_path) as ours:
        folders.clear_unfinished(tmp_path)
        assert list(tmp_path.iterdir()) == [ours]
        with pytest.raises(BlockingIOError), paths.held(ours):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_will_do(tmp_path, monkeypatch):
    def no_locks(descriptor, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with folders.scratch(tmp_path) as ours:
        assert ours.is_dir()


def test_an_interrupted_exchange_gives_the_name_back(tmp_path, monkeypatch):
    directory, fresh = tmp_path / "adapter", tmp_path / "scratch" / "new"
    for folder, text in ((directory, "before"), (fresh, "after")):
        folder.mkdir(parents=True)
        (folder / "ia.json").write_text(text)
    rename = Path.rename

    def interrupted(self, target):
        if self == fresh:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        folders.put_in_place(fresh, directory)
    assert (directory / "ia.json").read_text() == "before"


def test_what_a_link_leads_to_is_replaced_and_not_the_link(tmp_path, tiny_base):
    elsewhere, link = tmp_path / "disk" / "ia", tmp_path / "ia"
    bank = Bank.fresh(tiny_base.model, [0], r=2, alpha=4, target_modules=target_names(tiny_base))
    adapter = bank.adapter(0)
    bank.remove()
    write_adapter(elsewhere, adapter, provenance("train-ia", tiny_base, {}))
    link.symlink_to(elsewhere)
    write_adapter(link, adapter, provenance("train-ia", tiny_base, {"seed": 1}))
    assert link.is_symlink() and read_adapter(elsewhere, tiny_base).provenance["arguments"] == {"seed": 1}


def test_what_cannot_be_an_adapter_is_known_before_the_work(tmp_path):
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    (tmp_path / "loop").symlink_to("loop")
    for name, complaint in (
        ("nowhere", "a link to nothing"),
        ("loop", "link to nothing"),
        ("\udcff", "UTF-8"),
    ):
        with pytest.raises(IAError, match=complaint):
            folders.check_free(tmp_path / name, "implant")


def test_what_is_in_place_can_be_read_folders_too(tmp_path):
    fresh = tmp_path / "scratch" / "new"
    (fresh / "more").mkdir(parents=True)
    for path in (fresh / "ia.json", fresh / "weights", fresh / "more" / "template"):
        path.touch(0o600)
    (fresh / "ia.json").chmod(0o644)
    folders.put_in_place(fresh, tmp_path / "made")
    assert (tmp_path / "made" / "more").stat().st_mode & 0o700 == 0o700
    for path in ("weights", "more/template"):
        assert (tmp_path / "made" / path).stat().st_mode & 0o777 == 0o644
