"""Leaves inside containers: all kinds are walked and come back as what they were."""

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

from shrink.core.nested import as_dicts, map_leaves

Pair = namedtuple("Pair", "a b")


@dataclass(frozen=True)
class Result:
    score: Any
    note: str = "none"


def test_every_container_is_walked_and_kept() -> None:
    value = (1, [Pair(2, "x")], {"k": Result(3)}, OrderedDict(z=4), None)
    doubled = map_leaves(value, int, lambda n: 2 * n)
    assert doubled == (2, [Pair(4, "x")], {"k": Result(6)}, OrderedDict(z=8), None)
    assert [type(v) for v in doubled] == [type(v) for v in value]


def test_the_original_is_left_as_it_was() -> None:
    value = Result([1])
    map_leaves(value, int, lambda n: n + 1)
    assert value == Result([1])


def test_dataclasses_are_written_as_dicts() -> None:
    assert as_dicts([Result((1,))]) == [{"score": (1,), "note": "none"}]
