"""What `keep`, `only` and `free` mean: layers, tensors, inputs and outputs by name."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

import shrink
from shrink.capture.capture import capture
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, as_inputs
from shrink.groups.find import find_groups
from shrink.groups.globs import Globs, name_interface, parents_of


def groups_of(model: nn.Module, x: Tensor, **options: list[str]) -> ChannelGroups:
    return find_groups(capture(model.eval(), as_inputs(x)), **options)  # type: ignore[arg-type]


def names_of(found: ChannelGroups) -> list[str]:
    return [group.name for group in found.groups]


class UNet(nn.Module):
    """An encoder, a transposed convolution, and a decoder that reads the encoder again."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(8, 16, 2, stride=2), nn.BatchNorm2d(16), nn.ReLU())
        self.up = nn.ConvTranspose2d(16, 10, 2, stride=2, bias=False)
        self.merge = nn.Sequential(nn.BatchNorm2d(18), nn.Conv2d(18, 6, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        return self.head(self.merge(torch.cat([skip, self.up(self.deep(skip))], 1)))


class Detector(nn.Module):
    """A backbone with a residual, a neck that joins two scales, and one head for both."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "stem": nn.Conv2d(3, 8, 3, stride=2, padding=1),
                "block": nn.Conv2d(8, 8, 3, padding=1),
                "last": nn.Conv2d(8, 16, 3, stride=2, padding=1),
            }
        )
        self.neck = nn.ModuleList([nn.Conv2d(8, 12, 1), nn.Conv2d(16, 12, 1)])
        self.norm = nn.GroupNorm(1, 12)
        self.head = nn.ModuleDict({"hidden": nn.Conv2d(12, 12, 3), "boxes": nn.Conv2d(12, 4, 1)})

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.backbone["stem"](x).relu()
        first = first + self.backbone["block"](first).relu()
        second = self.backbone["last"](first).relu()
        scales = [n(s) for n, s in zip(self.neck, (first, second), strict=True)]
        return [self.head["boxes"](self.head["hidden"](self.norm(s)).relu()) for s in scales]


IMAGE = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("model", "only", "expected"),
    [
        (UNet(), ["down", "deep"], ["down.0.weight:0", "deep.0.weight:0"]),
        (UNet(), ["d*"], ["down.0.weight:0", "deep.0.weight:0"]),
        (UNet(), ["up"], ["up.weight:1"]),
        (UNet(), ["merge.1"], ["merge.1.weight:0"]),
        (Detector(), ["backbone"], ["backbone.stem.weight:0", "backbone.last.weight:0"]),
        (Detector(), ["backbone.last"], ["backbone.last.weight:0"]),
        (Detector(), ["neck.*"], ["neck.0.weight:0"]),
    ],
    ids=["encoder", "encoder-by-glob", "transposed", "decoder", "backbone", "a-layer", "neck"],
)
def test_only_prunes_what_it_names(model: nn.Module, only: list[str], expected: list[str]) -> None:
    found = groups_of(model, IMAGE, only=only)
    if only == ["neck.*"]:  # both scales go through one head: it reads what both have in common
        expected = [name for name in names_of(found) if name.startswith("neck.")]
        assert expected
    assert names_of(found) == expected
    assert any(f.reason == f"user: only={only[0]}" or len(only) > 1 for f in found.frozen)


def test_only_leaves_a_shared_channel_whole_unless_all_that_make_it_are_named() -> None:
    assert names_of(groups_of(Detector(), IMAGE, only=["backbone.block"])) == []
    both = ["backbone.block", "backbone.stem"]
    assert names_of(groups_of(Detector(), IMAGE, only=both)) == ["backbone.stem.weight:0"]


def test_only_means_the_width_of_an_embedding_not_its_vocabulary() -> None:
    model = nn.Sequential(nn.Embedding(20, 8), nn.Linear(8, 6), nn.Linear(6, 2))
    tokens = torch.zeros(1, 4, dtype=torch.int64)
    assert names_of(groups_of(model, tokens, only=["0"])) == ["0.weight:1"]
    assert names_of(groups_of(model, tokens, only=["1"])) == ["1.weight:0"]


@pytest.mark.parametrize("keep", ["down", "down.0.weight", "down.*"])
def test_keep_protects_a_layer_by_its_name_a_tensor_or_a_glob(keep: str) -> None:
    names = names_of(groups_of(UNet(), IMAGE, keep=[keep]))
    assert names == ["deep.0.weight:0", "up.weight:1", "merge.1.weight:0"]


@pytest.mark.parametrize(
    ("option", "glob", "close"),
    [("keep", "dwon*", "down"), ("only", "merge.l", "merge"), ("free", "outptu:1", "output")],
)
def test_a_glob_that_matches_nothing_names_what_is_like_it(
    option: str, glob: str, close: str
) -> None:
    with pytest.raises(shrink.InputError) as caught:
        groups_of(UNet(), IMAGE, **{option: [glob]})
    assert caught.value.where == f"{option}={glob}"
    assert close in caught.value.fix


class Named(nn.Module):
    """Two inputs, one of them by name, and outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.more = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(8, 3)

    def forward(self, x: Tensor, *, bias: Tensor) -> Mapping[str, Tensor]:
        hidden = (self.body(x) + bias).relu()
        return {"logits": self.head(hidden).softmax(-1), "more": self.more(hidden)}


NAMED = Inputs((torch.zeros(2, 6),), {"bias": torch.zeros(2, 1)})


def test_inputs_and_outputs_go_by_their_place_and_name() -> None:
    graph = capture(Named(), NAMED)
    names = [name for name, _ in name_interface(graph)]
    assert names == ["input.0", "input.bias", "output.logits", "output.more"]
    assert parents_of("a.b.c") == ["a.b.c", "a.b", "a"]


@pytest.mark.parametrize(
    ("free", "more"),
    [
        ("output", {"head.weight:0", "more.weight:0"}),
        ("output:1", {"head.weight:0", "more.weight:0"}),
        ("output.logits", {"head.weight:0"}),
        ("head", {"head.weight:0"}),
        ("input.0", {"body.weight:1"}),
        ("input.0:1", {"body.weight:1"}),
        ("body", {"body.weight:1"}),
        ("output:0", set()),
    ],
)
def test_free_lets_named_ends_of_a_network_shrink(free: str, more: set[str]) -> None:
    found = find_groups(capture(Named(), NAMED), free=[free])
    assert set(names_of(found)) == {"body.weight:0", *more}


def test_without_free_the_ends_stay_and_say_where_they_are() -> None:
    found = find_groups(capture(Named(), NAMED))
    where = {f.where for f in found.frozen if f.reason == "network output"}
    assert len(where) == 2
    assert all("test_globs.py:" in place for place in where)


def test_free_is_refused_where_control_flow_depends_on_data() -> None:
    class Chooses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x)) if x.sum() >= 0 else self.b(x)

    with pytest.raises(shrink.InputError) as caught:
        groups_of(Chooses(), torch.ones(1, 4), free=["output"])
    assert caught.value.where == "free=output"


def test_a_dimension_by_number_may_be_the_first() -> None:
    globs = Globs("free", ["output:0"])
    assert globs.match_dim("output", 0) == "output:0"
    assert globs.match_dim("output", 1) == ""
