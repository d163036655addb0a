"""Saving: all or nothing, and never over something else."""

import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from shrink.artifact import save as save_module
from shrink.artifact.load import load, load_plan, load_report, load_weights
from shrink.artifact.save import replace_files
from shrink.core.errors import ArtifactError
from tests.artifact.folders import PLAN, small_model, write

IMAGE = torch.zeros(1, 3, 8, 8)


def test_a_folder_holds_everything_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "new" / "out", small_model(), IMAGE)
    expected = ["manifest.json", "model.safetensors", "plan.json", "program.pt2"]
    assert sorted(p.name for p in folder.iterdir()) == [*expected, "report.json", "report.md"]
    assert [p.name for p in folder.parent.iterdir()] == ["out"]
    assert load_plan(folder) == PLAN
    assert load_report(folder) == {"schema_version": 1}


def test_the_model_is_as_it_was(tmp_path: Path) -> None:
    net = small_model()
    net[1].eval()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    random_state = torch.get_rng_state()
    write(tmp_path / "out", net, IMAGE)
    assert [m.training for m in net.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert torch.equal(random_state, torch.get_rng_state())
    assert torch.is_grad_enabled()


def test_weights_fit_the_original_class(tmp_path: Path) -> None:
    net = small_model()
    folder = write(tmp_path / "out", net, IMAGE)
    other = small_model()
    other.load_state_dict(load_file(folder / "model.safetensors"))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_neither_input_values_nor_source_paths_are_in_the_program(tmp_path: Path) -> None:
    secret = torch.full((2, 3, 8, 8), 0.7310585786)
    content = (write(tmp_path / "out", small_model(), secret) / "program.pt2").read_bytes()
    assert secret.numpy().tobytes()[:64] not in content
    assert str(Path(nn.__file__).parent).encode() not in content


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="exists already") as caught:
        write(tmp_path / "out", small_model(), IMAGE)
    assert caught.value.where == str(tmp_path / "out")
    assert "--force" in caught.value.fix


def test_force_replaces_an_artifact(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", small_model(), IMAGE)
    (folder / "old.txt").write_text("old")
    wider = nn.Sequential(nn.Conv2d(3, 5, 3))
    write(folder, wider, IMAGE, force=True)
    assert load(folder)(IMAGE).shape == (1, 5, 6, 6)
    assert not (folder / "old.txt").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("link", [False, True])
def test_force_does_not_replace_anything_else(tmp_path: Path, *, link: bool) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    target = mine
    if link:
        target = tmp_path / "link"
        target.symlink_to(mine)
    with pytest.raises(ArtifactError, match="not an artifact folder") as caught:
        write(target, small_model(), IMAGE, force=True)
    assert caught.value.where == str(target)
    assert caught.value.fix
    assert (mine / "thesis.txt").read_text() == "years"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_run_leaves_the_old_folder_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    write(tmp_path / "old", small_model(), IMAGE)

    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(save_module, "write_manifest", stop)
    for name in ("old", "new"):
        with pytest.raises((KeyboardInterrupt, ArtifactError)):
            write(tmp_path / name, nn.Sequential(nn.Conv2d(3, 5, 3)), IMAGE, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["old"]
    assert load(tmp_path / "old")(IMAGE).shape == (1, 2)


def test_the_old_folder_comes_back_when_the_swap_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "out", small_model(), IMAGE)
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if ".new-" in self.name:
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(ArtifactError, match="Input/output error"):
        write(tmp_path / "out", nn.Sequential(nn.Conv2d(3, 5, 3)), IMAGE, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert load(tmp_path / "out")(IMAGE).shape == (1, 2)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written") as caught:
        write(tmp_path / "file" / "out", small_model(), IMAGE)
    assert caught.value.where == str(tmp_path / "file" / "out")
    assert caught.value.fix


def test_a_folder_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    folder = write(tmp_path / "out", small_model(), IMAGE)
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (folder, tmp_path / "plain")}
    assert len(modes) == 1


class Branching(nn.Module):
    """Takes a branch that depends on values."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


def test_a_model_that_cannot_be_exported_is_saved_without_program(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    net = Branching()
    folder = write(tmp_path / "out", net, torch.ones(2, 3))
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
    assert not (folder / "program.pt2").exists()
    assert torch.equal(load_weights(folder)["layer.weight"], net.layer.weight)
    with pytest.raises(ArtifactError, match="holds no program") as caught:
        load(folder)
    assert caught.value.where == str(folder)
    assert "shrink.apply" in caught.value.fix


class Stateful(nn.Linear):
    """Keeps something else than tensors in its state dict."""

    def get_extra_state(self) -> str:
        return "state"

    def set_extra_state(self, state: str) -> None:
        assert state == "state"


def test_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds a str") as caught:
        write(tmp_path / "out", nn.Sequential(Stateful(2, 2)), torch.ones(1, 2))
    assert caught.value.where == "0._extra_state"
    assert caught.value.fix
    assert not list(tmp_path.iterdir())


def test_reports_can_be_replaced_and_added(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", small_model(), IMAGE)
    replace_files(folder, {"report.json": '{"schema_version": 1, "a": "é"}', "report.pptx": b"\0"})
    assert load_report(folder)["a"] == "é"
    assert load(folder)(IMAGE).shape == (1, 2)
    (folder / "report.pptx").write_bytes(b"\1")
    with pytest.raises(ArtifactError, match="content"):
        load(folder)
