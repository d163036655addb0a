"""Manifests: what differs from them is refused before it is parsed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shrink.artifact.load import load, load_plan, load_report, load_weights
from shrink.core.errors import ArtifactError
from tests.artifact.folders import edit_manifest


def _flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _append(folder: Path) -> None:
    with (folder / "plan.json").open("a") as file:
        file.write(" ")


def _link(folder: Path) -> None:
    (folder / "report.md").rename(folder.parent / "report.md")
    (folder / "report.md").symlink_to(folder.parent / "report.md")


def _replace_by_folder(folder: Path) -> None:
    (folder / "report.md").unlink()
    (folder / "report.md").mkdir()


def _replace_by_pipe(folder: Path) -> None:
    (folder / "report.md").unlink()
    os.mkfifo(folder / "report.md")


def _escape(folder: Path) -> None:
    (folder.parent / "secret").write_text("x")
    edit_manifest(folder, lambda m: m["files"].update({"../secret": {"size": 1, "sha256": "0"}}))


def _enlarge_manifest(folder: Path) -> None:
    with (folder / "manifest.json").open("a") as file:
        file.write(" " * (1 << 20))


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        (_flip, "model.safetensors", "content"),
        (_append, "plan.json", "bytes where the manifest says"),
        (_link, "report.md", "is a link"),
        (_replace_by_folder, "report.md", "is missing"),
        (_replace_by_pipe, "report.md", "is missing"),
        (_escape, "manifest.json", "'../secret'"),
        (_enlarge_manifest, "manifest.json", "more than"),
        (lambda f: (f / "program.pt2").unlink(), "program.pt2", "is missing"),
        (lambda f: (f / "manifest.json").unlink(), "manifest.json", "is missing"),
        (lambda f: (f / "manifest.json").write_text("{"), "manifest.json", "not valid JSON"),
        (lambda f: edit_manifest(f, lambda m: m.pop("files")), "manifest.json", "'files'"),
        (lambda f: edit_manifest(f, lambda m: m.update(version=2)), "manifest.json", "version 2"),
        (
            lambda f: edit_manifest(f, lambda m: m["files"].pop("plan.json")),
            "manifest.json",
            "plan.json",
        ),
        (
            lambda f: edit_manifest(f, lambda m: m["files"].update({"plan.json": 3})),
            "manifest.json",
            "no size and digest",
        ),
    ],
)
def test_a_folder_that_differs_from_its_manifest_is_refused(
    folder: Path, damage: Callable[[Path], None], where: str, what: str
) -> None:
    damage(folder)
    for read in (load, load_plan, load_report, load_weights):
        with pytest.raises(ArtifactError) as caught:
            read(folder)
        assert caught.value.where == str(folder / where)
        assert what in caught.value.what
        assert caught.value.fix


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no such folder") as caught:
        load(tmp_path / "none")
    assert caught.value.where == str(tmp_path / "none")
    assert "shrink compress" in caught.value.fix


def test_files_beyond_the_manifest_are_left_alone(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    assert load_plan(folder).model == "small"
