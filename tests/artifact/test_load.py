"""Loading: the same function, without the class, and nothing of the folder is executed."""

import copy
import io
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from shrink.artifact.load import load, load_weights
from shrink.core.errors import ArtifactError, InputError
from shrink.core.inputs import Inputs
from tests.artifact.folders import edit_graph, rehash, rewrite_program, small_model, write


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Rich(nn.Module):
    """Tied, unused, non-persistent and plain tensors; nested inputs and outputs; regions."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 4)
        self.two = nn.Linear(4, 4)
        self.two.weight = self.one.weight
        self.unused = nn.Parameter(torch.zeros(3), requires_grad=False)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("table", torch.rand(4), persistent=False)
        self.plain = torch.rand(4)

    def forward(self, x: Tensor, *, scale: int = 3, extra: dict[str, Tensor]) -> Any:
        with torch.no_grad():
            y = self.one(x) * self.table + torch.arange(4, device=x.device)
        with torch.autocast(x.device.type, dtype=torch.bfloat16):
            z = self.two(x)
        y = y.masked_fill(y < 0, float("-inf")).softmax(1)
        values, indices = torch.max(y, dim=1)
        out = z + self.plain + extra["q"] * scale
        return OrderedDict(out=out, pair=Pair(values, indices), parts=list(torch.split(y, 2, 1)))


def rich_arguments(batch: int) -> tuple[Tensor, dict[str, Any]]:
    generator = torch.Generator().manual_seed(batch)
    x, q = torch.randn(2, batch, 4, generator=generator)
    return x, {"extra": {"q": q}, "scale": 3}


def rich_inputs() -> Inputs:
    x, kwargs = rich_arguments(1)
    return Inputs((x,), kwargs)


def test_a_loaded_model_computes_the_same_for_any_batch(saved: Path) -> None:
    program, net = load(saved), small_model().eval()
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 8, 8)
        assert torch.equal(program(x), net(x))


def test_structures_ties_constants_and_regions_survive(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Rich()
    program = load(write(tmp_path / "out", net, rich_inputs()))
    x, kwargs = rich_arguments(5)
    expected, result = net.eval()(x, **kwargs), program(x, **kwargs)
    assert type(result) is OrderedDict
    assert list(result) == list(expected)
    flat = [expected["out"], *expected["pair"], *expected["parts"]]
    found = [result["out"], *result["pair"], *result["parts"]]
    assert all(torch.equal(a, b) for a, b in zip(flat, found, strict=True))
    assert [t.requires_grad for t in found] == [t.requires_grad for t in flat]
    assert program.state_dict().keys() == net.state_dict().keys()
    assert program.one.weight is program.two.weight
    assert not program.unused.requires_grad
    assert program.one.weight.requires_grad


def test_a_model_is_loaded_in_a_process_without_its_class(tmp_path: Path) -> None:
    (tmp_path / "private_model.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(4, 3)\n"
        "    def forward(self, x):\n"
        "        return self.layer(x).relu().view(x.shape[0], 3, 1)\n"
    )
    saver = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import torch; from private_model import Net\n"
        "from pathlib import Path; from tests.artifact.folders import write\n"
        "from safetensors.torch import save_file\n"
        "net = Net(); x = torch.randn(7, 4)\n"
        "write(Path(sys.argv[1], 'out'), net, torch.zeros(1, 4))\n"
        "save_file({'x': x, 'y': net(x).detach()}, Path(sys.argv[1], 'expected'))\n"
    )
    loader = (
        "import sys, pickle, torch\n"
        "from pathlib import Path; from safetensors.torch import load_file\n"
        "from shrink.artifact.load import load\n"
        "def refuse(*args, **kwargs): raise SystemExit('unpickled')\n"
        "pickle.load = pickle.loads = pickle.Unpickler = pickle._Unpickler = torch.load = refuse\n"
        "expected = load_file(Path(sys.argv[1], 'expected'))\n"
        "program = load(Path(sys.argv[1], 'out'))\n"
        "assert torch.equal(program(expected['x']), expected['y'])\n"
        "assert 'private_model' not in sys.modules\n"
        "print('equal')\n"
    )
    for script, output in ((saver, ""), (loader, "equal\n")):
        done = subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", script, str(tmp_path)],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (0, output), done.stderr


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.trace,))


def test_a_pickle_in_the_program_is_never_opened(folder: Path, tmp_path: Path) -> None:
    net = small_model()
    trace = tmp_path / "executed"
    buffer = io.BytesIO()
    torch.save(Bomb(trace), buffer)
    bombs = (pickle.dumps(Bomb(trace)), buffer.getvalue())
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(io.BytesIO(bombs[1]), weights_only=True)
    for bomb in bombs:

        def plant(name: str, content: bytes, bomb: bytes = bomb) -> bytes:
            keep = name.endswith((".json", "version", "format", "byteorder", "serialization_id"))
            return content if keep else bomb

        rewrite_program(folder, plant)
        assert bomb in (folder / "program.pt2").read_bytes()
        x = torch.randn(2, 3, 8, 8)
        assert torch.equal(load(folder)(x), net.eval()(x))
    assert not trace.exists()
    pickle.loads(bombs[0])  # noqa: S301 - the trap itself works
    assert trace.exists()


def _node(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["graph_module"]["graph"]["nodes"][0]
    return found


def _target(target: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: _node(data).update(target=target)


def _specs(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["graph_module"]["signature"]
    return found


def _repeat_node(data: dict[str, Any]) -> None:
    data["graph_module"]["graph"]["nodes"].append(_node(data))


def _unknown_argument(data: dict[str, Any]) -> None:
    _node(data)["inputs"][0]["name"] = "x); import os; (y"


def _custom_object(data: dict[str, Any]) -> None:
    _specs(data)["input_specs"][0] = {"custom_obj": {"arg": {"name": "p"}, "custom_obj_name": "p"}}


def _mutation(data: dict[str, Any]) -> None:
    spec = {"buffer_mutation": {"arg": {"name": "x"}, "buffer_name": "1.running_mean"}}
    _specs(data)["output_specs"].insert(0, spec)


def _structure(text: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = text

    return change


@pytest.mark.parametrize(
    "change",
    [
        _target("torch.hub.load"),
        _target("torch.ops.load_library"),
        _target("torch.ops.aten.from_file.default"),
        _target("torch.ops.aten.save.default"),
        _target("torch.ops.aten.conv2d.__class__"),
        _target("torch.ops.image.read_file.default"),
        _target("torch.ops.aten.conv2d"),
        _target("_operator.methodcaller"),
        _target("#extension:op"),
        _repeat_node,
        _unknown_argument,
        _custom_object,
        _mutation,
        _structure("[1, "),
        _structure("[2, {}]"),
        _structure('[1, {"type": "os.system", "context": "[]", "children_spec": []}]'),
        _structure(
            '[1, {"type": "collections.defaultdict", "context": '
            '"{\\"default_factory_module\\": \\"os\\"}", "children_spec": []}]'
        ),
        lambda data: data["schema_version"].update(major=9),
        lambda data: data.pop("graph_module"),
        lambda data: _node(data)["inputs"][0].update(arg={"as_tensor": {"name": "nowhere"}}),
        lambda data: _node(data)["inputs"][0].update(arg={"as_int": "1"}),
        lambda data: _node(data)["inputs"][0].update(arg={"as_operator": "torch.hub.load"}),
        lambda data: _node(data).update(outputs=[{"as_custom_obj": {}}]),
    ],
)
def test_a_program_made_to_harm_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    edit_graph(folder, change)
    with pytest.raises(ArtifactError) as caught:
        load(folder)
    assert caught.value.where == str(folder / "program.pt2")
    assert "shrink.apply" in caught.value.fix


def test_names_of_the_program_do_not_become_code(folder: Path, tmp_path: Path) -> None:
    net = small_model()
    trace = tmp_path / "executed"
    evil = f"x\n    open({str(trace)!r}, 'w')"

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {evil if k == "x" else k: rename(v) for k, v in value.items()}
        if isinstance(value, list):
            return [rename(v) for v in value]
        return evil if value == "x" else value

    edit_graph(folder, lambda data: data.update(rename(data)))
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(load(folder)(x), net.eval()(x))
    assert not trace.exists()


def _compress(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content + b" " * (1 << 20))


def _twice(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/models/model.json", "{}")


@pytest.mark.parametrize(
    "damage",
    [
        _compress,
        _twice,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-100]),
        lambda path: path.write_bytes(b"PK\x05\x06" + b"\0" * 18),
    ],
)
def test_an_archive_that_unpacks_into_more_or_less_is_refused(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder / "program.pt2")
    rehash(folder)
    with pytest.raises(ArtifactError) as caught:
        load(folder)
    assert caught.value.where == str(folder / "program.pt2")
    assert caught.value.fix


def _change_weights(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _absurd_shape(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"shape":[2,144]', b'"shape":[2,999]'))


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: _change_weights(f, lambda t: t.pop("4.bias")),
        lambda f: _change_weights(f, lambda t: t.update(more=torch.zeros(1))),
        lambda f: _change_weights(
            f, lambda t: t.update({"4.bias": torch.zeros(2, dtype=torch.int8)})
        ),
        _absurd_shape,
        lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 64),
        lambda f: (f / "model.safetensors").write_bytes(b""),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    rehash(folder)
    with pytest.raises(ArtifactError) as caught:
        load(folder)
    assert caught.value.where.startswith(str(folder))
    assert caught.value.fix


def test_tied_weights_have_all_their_names(tmp_path: Path) -> None:
    net = Rich()
    weights = load_weights(write(tmp_path / "out", net, rich_inputs()))
    assert weights.keys() == net.state_dict().keys()
    assert torch.equal(weights["two.weight"], net.one.weight)


def test_a_program_copies_and_pickles(tmp_path: Path) -> None:
    program = load(write(tmp_path / "out", Rich(), rich_inputs()))
    x, kwargs = rich_arguments(2)
    expected = program(x, **kwargs)["out"]
    copied = copy.deepcopy(program)
    pickled = pickle.loads(pickle.dumps(program))  # noqa: S301 - of our own making
    with torch.no_grad():
        program.one.weight.zero_()
    for other in (copied, pickled):
        assert torch.equal(other(x, **kwargs)["out"], expected)
        assert other.one.weight is other.two.weight


def test_a_program_converts_and_exports(saved: Path) -> None:
    program = load(saved)
    image = torch.randn(1, 3, 8, 8)
    exported = torch.export.export(program, (image,), strict=False).module()
    assert torch.equal(exported(image), program(image))
    assert program.double()(image.double()).dtype == torch.float64
    assert program.to("meta")(image.to("meta")).device.type == "meta"


def test_a_program_stays_in_eval_mode(saved: Path) -> None:
    program = load(saved)
    assert not any(module.training for module in program.modules())
    assert program.eval() is program
    with pytest.raises(ArtifactError, match="eval mode only") as caught:
        program.train()
    assert "shrink.apply" in caught.value.fix
    program(torch.randn(1, 3, 8, 8)).sum().backward()
    assert program.get_parameter("0.weight").grad is not None


def test_arguments_may_be_passed_by_place_or_name(tmp_path: Path) -> None:
    net = Rich()
    program = load(write(tmp_path / "out", net, rich_inputs()))
    x, kwargs = rich_arguments(2)
    swapped = {"scale": 3, "x": x, "extra": kwargs["extra"]}
    assert torch.equal(program(**swapped)["out"], net.eval()(x, **kwargs)["out"])


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write(tmp_path_factory.mktemp("rich") / "out", Rich(), rich_inputs())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 4}, "argument 4"),
        ({"scale": 3.0}, "argument 3.0"),
        ({"extra": {"r": torch.zeros(2, 4)}}, "not built as"),
        ({"extra": {"q": torch.zeros(2, 5)}}, "(2, 5)"),
        ({"extra": {"q": 1}}, "int"),
        ({"other": 1}, "other"),
    ],
)
def test_other_arguments_are_refused(rich: Path, change: dict[str, Any], message: str) -> None:
    program = load(rich)
    x, kwargs = rich_arguments(2)
    with pytest.raises(InputError) as caught:
        program(x, **(kwargs | change))
    assert message in caught.value.what
    assert caught.value.where == "forward"
    assert caught.value.fix


class FixedBatch(nn.Module):
    """Folds the batch of 2 that it was written for."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.view(6))


def test_a_program_of_one_batch_size_refuses_others(tmp_path: Path) -> None:
    net = FixedBatch()
    program = load(write(tmp_path / "out", net, torch.zeros(2, 3)))
    x = torch.randn(2, 3)
    assert torch.equal(program(x), net(x))
    with pytest.raises(InputError, match=r"shape \(2, 3\)") as caught:
        program(torch.randn(3, 2))
    assert caught.value.fix


@pytest.mark.cuda
def test_a_program_moves_to_the_gpu(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    program = load(write(tmp_path / "out", Rich(), rich_inputs())).to("cuda")
    x, kwargs = rich_arguments(2)
    result = program(x.cuda(), extra={"q": kwargs["extra"]["q"].cuda()}, scale=3)
    assert result["out"].device.type == "cuda"
