"""Views, joins and cuts: labels move with their indices."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.rules.couplings import read


def shuffle(x: Tensor) -> Tensor:
    return x.view(1, 2, 3).transpose(1, 2).reshape(1, 6)


ROWS = [
    pytest.param(nn.Flatten(), [(1, 2, 2)], "x1:ab x2:cd out1:aabb*cdcd", id="flatten"),
    pytest.param(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 2)),
        [(1, 2, 2)],
        "x1:ab x2:cd 1.weight0=1.bias0=out1:ef 1.weight1:aabb*cdcd",
        id="flatten-linear",
    ),
    pytest.param(
        lambda x: x.view(1, 2, 3),
        [(1, 6)],
        "x1:aaabbb*cdefgh out1:ab out2:[cde|fgh]1 {cde|fgh}",
        id="heads",
    ),
    pytest.param(
        lambda x: x.view(2, -1), [(2, 3, 1)], "x0=out0:ab x1=out1:cde", id="squeeze-by-view"
    ),
    pytest.param(
        lambda x: x.view(3, 2),
        [(2, 3)],
        "!a view cuts across channels: x0 x1",
        id="crossing",
    ),
    pytest.param(
        lambda x: x.view(2, 3, 2)[:, :, 0],
        [(2, 6)],
        "x0=out0:ab x1:ccddee*-f-g-h out1:cde {-f|-g|-h}",
        id="view-and-select",
    ),
    pytest.param(
        lambda x: x.unflatten(1, (2, -1)),
        [(1, 4)],
        "x1:aabb*cdef out1:ab out2:[cd|ef]1 {cd|ef}",
        id="unflatten",
    ),
    pytest.param(
        lambda x: x.squeeze(1).unsqueeze(0), [(2, 1, 3)], "x0=out1:ab x2=out2:cde", id="squeeze"
    ),
    pytest.param(
        lambda x: x.permute(2, 0, 1), [(2, 3, 2)], "x0=out1:ab x1=out2:cde x2=out0:fg", id="permute"
    ),
    pytest.param(
        lambda x: x.transpose(0, -1), [(2, 1, 3)], "x0=out2:ab x2=out0:cde", id="transpose"
    ),
    pytest.param(
        lambda x: x.movedim(0, 2), [(2, 3, 2)], "x0=out2:ab x1=out0:cde x2=out1:fg", id="movedim"
    ),
    pytest.param(lambda x: x.expand(2, 3), [(2, 1)], "x0=out0:ab out1:cde", id="expand"),
    pytest.param(
        lambda x, y: x.expand_as(y),
        [(2, 1), (2, 3)],
        "x0=y0=out0:ab y1=out1:cde",
        id="expand-as",
    ),
    pytest.param(lambda x: x.repeat(1, 2), [(2, 2)], "x0=out0:ab x1:cd out1:cdcd", id="repeat"),
    pytest.param(
        lambda x: x.repeat_interleave(2, 1),
        [(2, 2)],
        "x0=out0:ab x1:cd out1:ccdd",
        id="repeat-interleave",
    ),
    pytest.param(
        lambda x: x.repeat_interleave(2),
        [(2, 2)],
        "!repeat_interleave without a dimension: x0 x1",
        id="repeat-flattened",
    ),
    pytest.param(
        shuffle, [(1, 6)], "x1:aaabbb*cdecde out1:ccddee*ababab {cde|cde}", id="channel-shuffle"
    ),
    pytest.param(
        lambda x, y: torch.cat([x, y], 1),
        [(2, 2), (2, 3)],
        "x0=y0=out0:ab x1:cd y1:efg out1:cdefg",
        id="cat",
    ),
    pytest.param(lambda x: torch.cat([x, x], 1), [(1, 2)], "x1:ab out1:abab", id="cat-with-itself"),
    pytest.param(
        lambda x: torch.cat([x, torch.ones(1, 2)], 1) * torch.cat([x, x], 1),
        [(1, 2)],
        "x1:ab out1:abab",
        id="cat-with-a-constant",
    ),
    pytest.param(
        lambda x, y: torch.stack([x, y], 1).sum(1),
        [(2, 3), (2, 3)],
        "x0=y0=out0:ab x1=y1=out1:cde",
        id="stack",
    ),
    pytest.param(
        nn.ZeroPad2d(1),
        [(1, 2, 2, 2)],
        "x1=out1:ab x2:cd x3:ef out2:-cd- out3:-ef-",
        id="pad-positions",
    ),
    pytest.param(
        lambda x: nn.functional.pad(x, (0, 0, 0, 1)),
        [(2, 3, 2)],
        "x0=out0:ab x1:cde x2=out2:fg out1:cde-",
        id="pad-channels",
    ),
    pytest.param(
        lambda x: x.chunk(2, 1), [(1, 4)], "x1:abcd outa1:ab outb1:cd {ab|cd}", id="chunk"
    ),
    pytest.param(
        lambda x: x.chunk(2, 1),
        [(1, 5)],
        "!cut into parts of different size: x1 outa1 outb1",
        id="chunk-uneven",
    ),
    pytest.param(
        lambda x: x.split(2, 1), [(1, 4)], "x1:abcd outa1:ab outb1:cd {ab|cd}", id="split"
    ),
    pytest.param(
        lambda x: x.split([1, 3], 1),
        [(1, 4)],
        "x1:-abc outb1:abc !the only index of a slice: x1",
        id="split-sizes",
    ),
    pytest.param(
        lambda x: x.tensor_split([1, 3], 1),
        [(1, 4)],
        "x1:-ab- outb1:ab !the only index of a slice: x1",
        id="tensor-split",
    ),
    pytest.param(lambda x: x[:, 1:3], [(2, 4)], "x0=out0:ab x1:cdef out1:de", id="slice"),
    pytest.param(lambda x: x[:, ::2], [(2, 4)], "x0=out0:ab x1:ccdd out1:cd", id="slice-with-step"),
    pytest.param(
        lambda x: x[:, 0], [(2, 3)], "x0=out0:ab x1:-cd !index taken by itself: x1", id="select"
    ),
    pytest.param(
        lambda x: x.unbind(0),
        [(2, 3)],
        "x1=outa0=outb0:abc !index taken by itself: x0",
        id="unbind",
    ),
    pytest.param(
        lambda x: x.index_select(0, torch.tensor([1, 0])),
        [(2, 3)],
        "x1=out1:abc !gathered by index, whose numbers would have to change: x0",
        id="index-select",
    ),
    pytest.param(lambda x: x[torch.tensor([1, 0, 1])], [(2, 3)], "x1=out1:abc", id="gather-rows"),
    pytest.param(
        lambda x: x[:, torch.tensor([0, 1]), torch.tensor([0, 1])],
        [(2, 2, 2)],
        "x0=out0:ab",
        id="gather-two",
    ),
    pytest.param(lambda x: x.narrow(1, 1, 2), [(1, 4)], "x1:abcd out1:bc", id="narrow"),
    pytest.param(lambda x: x.flip(1), [(1, 3)], "x1:abc out1:cba", id="flip"),
    pytest.param(lambda x: x.repeat(1, 3), [(2, 1)], "x0=out0:ab out1:cde", id="repeat-one"),
    pytest.param(
        lambda x: x.repeat_interleave(3, 1), [(2, 1)], "x0=out0:ab out1:cde", id="interleave-one"
    ),
    pytest.param(
        lambda x: torch.hsplit(x, 2), [(1, 4)], "x1:abcd outa1:ab outb1:cd {ab|cd}", id="hsplit"
    ),
    pytest.param(lambda x: x[:, 1::2], [(1, 6)], "x1:aabbcc out1:abc", id="slice-second-of-pairs"),
    pytest.param(
        lambda x: x[:, 2::2], [(1, 6)], "!every n-th index is taken: x1 out1", id="slice-later"
    ),
    pytest.param(
        lambda x: x.diagonal(0, 1, 2),
        [(2, 3, 3)],
        "x0=out0:ab x1=x2=out1:cde",
        id="diagonal",
    ),
    pytest.param(
        lambda x: x.diagonal(1, 1, 2),
        [(2, 3, 3)],
        "x0=out0:ab !positions of two dimensions are matched: x1 x2",
        id="diagonal-beside",
    ),
    pytest.param(lambda x: x.diag(), [(3,)], "x0=out0=out1:abc", id="diag"),
    pytest.param(lambda x: x.diag(), [(3, 3)], "x0=x1=out0:abc", id="diag-of-matrix"),
    pytest.param(
        lambda x: x.roll((1, -1), (0, 1)),
        [(2, 3)],
        "x0:ab x1:cde out0:ba out1:dec",
        id="roll",
    ),
    pytest.param(
        lambda x: x.roll(1),
        [(2, 3)],
        "!order along the dimension matters: x0 x1",
        id="roll-flat",
    ),
    pytest.param(
        lambda x: x.clone().unsqueeze_(0).transpose_(1, 2).squeeze_(0).t_(),
        [(2, 3)],
        "x0=out0:ab x1=out1:cde",
        id="in-place-views",
    ),
    pytest.param(
        lambda x: x.rot90(1, [1, 2]),
        [(2, 2, 2)],
        "x0=out0:ab !positions of two dimensions are exchanged: x1 x2",
        id="rot90",
    ),
    pytest.param(
        torch.diag_embed,
        [(2, 3)],
        "x0=out0:ab x1=out1=out2:cde",
        id="diag-embed",
    ),
    pytest.param(
        lambda x: x.as_strided((2,), (1,), 1), [(3,)], "!read by strides: x0", id="as-strided"
    ),
    pytest.param(
        lambda x: x.as_strided((2, 2, 2), (4, 2, 1)),
        [(2, 4)],
        "x0=out0:ab x1:ccdd*efgh out1:cd out2:[ef|gh]1 {ef|gh}",
        id="as-strided-as-a-view",
    ),
    pytest.param(
        lambda x: x.as_strided((2, 2, 2), (3, 1, 1)),
        [(2, 3)],
        "x0=out0:ab !read by strides: x1",
        id="as-strided-as-windows",
    ),
    pytest.param(
        lambda x: x.mT.as_strided((3, 2), (2, 1)),
        [(2, 3)],
        "!read by strides: x0 x1",
        id="as-strided-out-of-order",
    ),
]


@pytest.mark.parametrize(("layer", "shapes", "expected"), ROWS)
def test_couples(
    layer: Callable[..., object], shapes: list[tuple[int, ...]], expected: str
) -> None:
    assert read(layer, *shapes) == expected
