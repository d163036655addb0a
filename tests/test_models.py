"""MODEL names: what resolves, to what, and what is refused with which words."""

import io
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from shrink import models
from shrink.artifact.plan_file import plan_to_text
from shrink.core.errors import ArtifactError, InputError
from shrink.core.inputs import Inputs, describe, tensors_in
from shrink.core.plan import Plan

FACTORY = """
from torch import nn, ones
from sibling_{tag} import WIDTH

def build():
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU())

def with_inputs():
    return build(), ones(2, 3, 5, 5)

def broken():
    raise RuntimeError("no licence")

def wrong():
    return 3

class Space:
    ready = nn.Linear(2, 2)
"""


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(url: str) -> None:
        raise OSError(f"{url} is not to be asked")

    monkeypatch.setattr(models, "_probe", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch_home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf_home"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    tag = tmp_path.name.replace("-", "_")
    (tmp_path / f"sibling_{tag}.py").write_text("WIDTH = 6\n")
    path = tmp_path / "net.py"
    path.write_text(FACTORY.format(tag=tag))
    return path


def shapes(resolved: models.ResolvedModel) -> list[tuple[int, ...]]:
    return [tuple(t.shape) for t in tensors_in(resolved.inputs)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("squeezenet1_1", [(1, 3, 224, 224)]),
        ("efficientnet_b1", [(1, 3, 240, 240)]),
        ("lraspp_mobilenet_v3_large", [(1, 3, 520, 520)]),
        ("r3d_18", [(1, 3, 16, 112, 112)]),
        ("raft_small", [(1, 3, 128, 128)] * 2),
        ("ssdlite320_mobilenet_v3_large", [(3, 320, 320)]),
        ("fasterrcnn_mobilenet_v3_large_320_fpn", [(3, 320, 320)]),
        ("quantized_shufflenet_v2_x0_5", [(1, 3, 224, 224)]),
    ],
)
def test_each_torchvision_family_has_its_own_inputs(
    name: str, expected: list[tuple[int, ...]]
) -> None:
    resolved = models.resolve(name, weights="random")
    assert shapes(resolved) == expected
    assert not resolved.module.training
    assert resolved.weights_note == "random (seed 0)"
    assert resolved.warnings == ()


def test_random_weights_follow_the_seed_and_leave_the_random_state_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        models.resolve("squeezenet1_1", weights="random", seed=seed).module.state_dict()
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not all(torch.equal(first[k], other[k]) for k in first)


def test_auto_weights_fall_back_with_a_loud_warning() -> None:
    resolved = models.resolve("squeezenet1_1")
    assert resolved.weights_note == "random (seed 0)"
    assert len(resolved.warnings) == 1
    assert "RANDOM" in resolved.warnings[0]
    assert "is not to be asked" in resolved.warnings[0]


def test_pretrained_weights_that_cannot_be_had_are_an_error() -> None:
    with pytest.raises(InputError, match="cannot be had") as caught:
        models.resolve("squeezenet1_1", weights="pretrained")
    assert caught.value.where == "SqueezeNet1_1_Weights.IMAGENET1K_V1"
    assert "--weights random" in caught.value.fix
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("weights", ["auto", "pretrained"])
def test_pretrained_weights_come_from_the_cache(weights: str) -> None:
    entry = models.importlib.import_module("torchvision.models").SqueezeNet1_1_Weights.DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    expected = models.resolve("squeezenet1_1", weights="random", seed=5).module.state_dict()
    torch.save(expected, folder / Path(entry.url).name)
    resolved = models.resolve("squeezenet1_1", weights=weights)
    found = resolved.module.state_dict()
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert resolved.weights_note == "pretrained (SqueezeNet1_1_Weights.IMAGENET1K_V1)"
    assert resolved.warnings == ()


def test_a_damaged_cache_is_no_crash() -> None:
    entry = models.importlib.import_module("torchvision.models").SqueezeNet1_1_Weights.DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    (folder / Path(entry.url).name).write_bytes(b"not weights")
    assert "RANDOM" in models.resolve("squeezenet1_1").warnings[0]


def test_a_download_is_checked_against_the_digest_in_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(models, "_probe", lambda _: None)
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **_: asked.append(a))
    models._download("https://example.org/models/net-0123456789.pth")
    ((url, destination, digest),) = asked
    assert url == "https://example.org/models/net-0123456789.pth"
    assert Path(destination).name == "net-0123456789.pth"
    assert digest == "0123456789"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("ResNet-50", "resnet50"),
        ("resnet5", "resnet50"),
        ("vit", "vit_b_16"),
        ("mobilenetv2", "mobilenet_v2"),
    ],
)
def test_an_unknown_name_lists_near_misses(name: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        models.resolve(name)
    assert near in caught.value.what
    assert caught.value.where == name
    assert "shrink models" in caught.value.fix


def test_a_hopeless_name_lists_none() -> None:
    with pytest.raises(InputError) as caught:
        models.resolve("@@@")
    assert "near" not in caught.value.what


def test_a_folder_that_is_no_artifact_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no artifact"):
        models.resolve(str(tmp_path))


def test_a_factory_in_a_file_is_called_with_its_neighbours_importable(file: Path) -> None:
    path = list(sys.path)
    resolved = models.resolve(f"{file}:with_inputs")
    assert shapes(resolved) == [(2, 3, 5, 5)]
    assert resolved.module[0].out_channels == 6
    assert resolved.weights_note == "from the factory (seed 0)"
    assert sys.path == path


def test_a_factory_without_inputs_needs_the_option(file: Path) -> None:
    with pytest.raises(InputError, match="no example inputs") as caught:
        models.resolve(f"{file}:build")
    assert "--input 1,3,224,224" in caught.value.fix
    assert shapes(models.resolve(f"{file}:build", input="1,3,9,9")) == [(1, 3, 9, 9)]
    assert shapes(models.resolve(f"{file}:build", inputs_required=False)) == []


def test_a_module_in_a_class_is_found(file: Path) -> None:
    assert isinstance(models.resolve(f"{file}:Space.ready", input="1,2").module, nn.Linear)


def test_the_factory_is_seeded(file: Path) -> None:
    first, again, other = (
        models.resolve(f"{file}:with_inputs", seed=seed).module[0].weight for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("attribute", "weights", "what"),
    [
        ("biuld", "auto", "near: build"),
        ("broken", "auto", "raised RuntimeError: no licence"),
        ("wrong", "auto", "of type int"),
        ("with_inputs", "pretrained", "brings its own weights"),
        ("with_inputs", "random", "brings its own weights"),
    ],
)
def test_a_bad_factory_is_named(file: Path, attribute: str, weights: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        models.resolve(f"{file}:{attribute}", weights=weights)
    assert what in caught.value.what
    assert caught.value.where == f"{file}:{attribute}"
    assert caught.value.fix


def test_a_file_without_factory_or_that_is_missing_is_named(file: Path) -> None:
    with pytest.raises(InputError) as caught:
        models.resolve(str(file))
    assert caught.value.fix == f"write {file}:build_model"
    with pytest.raises(InputError, match="no such file"):
        models.resolve("nowhere.py:build")


def test_a_file_that_cannot_be_imported_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
    before = set(sys.modules)
    with pytest.raises(InputError, match="ModuleNotFoundError"):
        models.resolve(f"{tmp_path / 'bad.py'}:build")
    assert not [name for name in set(sys.modules) - before if name.startswith("_shrink_model")]


def test_a_package_in_the_working_directory_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pkg_in_cwd.py").write_text("from torch import nn\nbuild = nn.Identity\n")
    monkeypatch.chdir(tmp_path)
    assert isinstance(models.resolve("pkg_in_cwd:build", input="1,2").module, nn.Identity)
    with pytest.raises(InputError, match="importing no_such_package raised"):
        models.resolve("no_such_package:build")


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())


def state() -> dict[str, torch.Tensor]:
    return {k: torch.full_like(v, 0.5) for k, v in net().state_dict().items()}


@pytest.mark.parametrize(
    ("wrap", "note"),
    [
        (lambda s: s, ""),
        (OrderedDict, ""),
        (lambda s: {"state_dict": s, "epoch": 3}, " [state_dict]"),
        (lambda s: {"model": s}, " [model]"),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, ""),
        (lambda s: {f"module._orig_mod.{k}": v for k, v in s.items()}, ""),
        (
            lambda s: {
                "model": {k: v * 0 for k, v in s.items()},
                "model_ema": {"n_averaged": torch.tensor(9)}
                | {f"module.{k}": v for k, v in s.items()},
            },
            " [model_ema]",
        ),
    ],
    ids=["plain", "ordered", "state_dict", "model", "ddp", "ddp-compiled", "ema"],
)
def test_wrapped_state_dicts_are_understood(
    file: Path, tmp_path: Path, wrap: Any, note: str
) -> None:
    path = tmp_path / "best.pt"
    torch.save(wrap(state()), path)
    resolved = models.resolve(f"{file}:with_inputs", weights=str(path))
    assert all((v == 0.5).all() for v in resolved.module.state_dict().values())
    assert resolved.weights_note == f"file {path}{note}"
    assert resolved.warnings == ()


def test_safetensors_are_read(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    save_file(state(), path)
    resolved = models.resolve(f"{file}:with_inputs", weights=str(path))
    assert (resolved.module[0].weight == 0.5).all()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ({}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        ({"0.weight": torch.zeros(6, 3, 3, 3)}, "1 missing (0.bias)"),
        ({**state(), "9.weight": torch.zeros(1)}, "1 unexpected (9.weight)"),
        ({**state(), "0.bias": torch.zeros(7)}, "(0.bias (7,), not (6,))"),
        ({f"{i}.w": torch.zeros(1) for i in range(5)}, "5 unexpected (0.w; 1.w; 2.w; ...)"),
        ({"0.bias": float("nan")}, "holds no state dict"),
    ],
    ids=["empty", "list", "missing", "unexpected", "shape", "many", "numbers"],
)
def test_the_weights_of_another_model_are_refused(
    file: Path, tmp_path: Path, content: Any, what: str
) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(InputError) as caught:
        models.resolve(f"{file}:with_inputs", weights=str(path))
    assert what in caught.value.what
    assert caught.value.where == str(path)
    assert caught.value.fix


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors", "pickled.pt"])
def test_files_that_hold_no_weights_are_refused(file: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x80\x04 nonsense")
    if name == "pickled.pt":
        torch.save({"hook": subprocess.Popen}, path)
    with pytest.raises(InputError, match="cannot be read as weights") as caught:
        models.resolve(f"{file}:with_inputs", weights=str(path))
    assert caught.value.where == str(path)


def test_a_missing_weights_file_is_named() -> None:
    with pytest.raises(InputError, match=r"no weights file 'best.pt'"):
        models.resolve("squeezenet1_1", weights="best.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value: float) -> None:
    module = net()
    with torch.no_grad():
        module[0].bias[2] = value
    with pytest.raises(InputError, match=r"NaN|infinity") as caught:
        models.check_finite(module)
    assert caught.value.where == "0.bias"


def test_a_mask_of_minus_infinity_is_allowed_but_nan_is_not() -> None:
    module = net()
    module.register_buffer("mask", torch.full((2, 2), float("-inf")))
    models.check_finite(module)
    module.mask[0, 0] = float("nan")
    with pytest.raises(InputError, match="NaN") as caught:
        models.check_finite(module)
    assert caught.value.where == "mask"


def test_inputs_are_read_from_text() -> None:
    inputs = models.parse_inputs("1,3,8,8; 1,16:int64; mask=1,16:bool")
    image, tokens = inputs.args
    assert image.shape == (1, 3, 8, 8)
    assert tokens.dtype == torch.int64
    assert 0 <= tokens.min() <= tokens.max() <= 1
    assert inputs.kwargs["mask"].dtype == torch.bool
    assert torch.equal(models.parse_inputs("4").args[0], models.parse_inputs("4").args[0])
    assert not torch.equal(
        models.parse_inputs("4").args[0], models.parse_inputs("4", seed=1).args[0]
    )


@pytest.mark.parametrize("text", ["", "1x3x224", "1,3,", "a,b", "1,3:int99", "1,3:nn"])
def test_inputs_that_are_no_shape_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="as a shape") as caught:
        models.parse_inputs(text)
    assert caught.value.where == "--input"


@pytest.mark.parametrize(
    ("note", "expected"),
    [
        ("random (seed 7)", ("random", 7)),
        ("pretrained (ResNet50_Weights.IMAGENET1K_V2)", ("pretrained", 0)),
        ("from the factory (seed 3)", ("auto", 3)),
        ("from the artifact", ("auto", 0)),
        ("file runs/a b.pt [model_ema]", ("runs/a b.pt", 0)),
        ("file best.safetensors", ("best.safetensors", 0)),
        ("", ("auto", 0)),
    ],
)
def test_a_note_can_be_repeated(note: str, expected: tuple[str, int]) -> None:
    assert models.recall_weights(note) == expected


def test_names_are_listed_by_glob_or_part() -> None:
    assert models.list_models("resnet1?") == ["resnet18"]
    assert "wide_resnet50_2" in models.list_models("resnet50")
    assert models.list_models("nothing at all") == []
    assert len(models.list_models()) > 100


def test_timm_is_one_clear_line_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match="timm is not installed") as caught:
        models.resolve("timm:resnet18")
    assert caught.value.fix == "pip install 'shrink[timm]'"


def test_timm_names_resolve() -> None:
    pytest.importorskip("timm")
    resolved = models.resolve("timm:resnet10t")
    assert shapes(resolved) == [(1, 3, 176, 176)]
    assert "RANDOM" in resolved.warnings[0]
    assert "timm:resnet10t" in models.list_models("timm:resnet1*")
    with pytest.raises(InputError, match=r"near: .*resnet18"):
        models.resolve("timm:resnet-18")
    with pytest.raises(InputError, match="tag") as caught:
        models.resolve("timm:resnet18.nope")
    assert caught.value.fix == "write timm:resnet18"


def test_timm_weights_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    path = tmp_path / "cached.safetensors"
    expected = models.resolve("timm:resnet10t", weights="random", seed=5).module.state_dict()
    save_file(expected, path)
    monkeypatch.setattr(models, "_cached_by_hub", lambda _: str(path))
    resolved = models.resolve("timm:resnet10t", weights="pretrained")
    found = resolved.module.state_dict()
    assert all(torch.equal(found[k], expected[k]) for k in expected)
    assert resolved.weights_note == "pretrained (resnet10t.c3_in1k)"


def test_an_unanswered_question_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(models, "PROBE_SECONDS", 0.05)
    block = models.threading.Event()

    def hang(*_: object, **__: object) -> io.BytesIO:
        block.wait(5)
        return io.BytesIO()

    monkeypatch.setattr(models.urllib.request, "urlopen", hang)
    with pytest.raises(OSError, match=r"example.org does not answer within 0.05 s"):
        models._probe("https://example.org/net.pth")
    block.set()


def test_an_artifact_folder_brings_weights_and_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan({}, {}, inputs=describe(Inputs((torch.zeros(1, 3, 9, 9),))))
    (tmp_path / "plan.json").write_text(plan_to_text(plan))
    monkeypatch.setattr(models, "load", lambda _: net())
    resolved = models.resolve(str(tmp_path))
    assert shapes(resolved) == [(1, 3, 9, 9)]
    assert resolved.weights_note == "from the artifact"
    with pytest.raises(InputError, match="has its own weights"):
        models.resolve(str(tmp_path), weights="random")


def test_a_damaged_artifact_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ArtifactError):
        models.resolve(str(tmp_path))
