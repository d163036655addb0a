"""What the user's globs mean: layers that stay or may go, inputs and outputs that may shrink."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray
from torch import fx

from shrink.core.errors import InputError
from shrink.core.graph import Graph
from shrink.core.groups import ChannelGroups
from shrink.core.inputs import Inputs, map_named


def name_interface(graph: Graph) -> list[tuple[str, fx.Node]]:
    """List a model's input and output tensors by name: `input`, `output.logits`."""
    found: list[tuple[str, fx.Node]] = []
    call = graph.calls[0]
    map_named(Inputs(call.args, call.kwargs), "input", lambda name, n: found.append((name, n)))
    outputs = graph.fx.output_node().args[0]
    map_named(outputs, "output", lambda name, n: found.append((name, n)))
    return found


def kept_interface(
    graph: Graph, groups: ChannelGroups, kept: NDArray[np.bool_]
) -> dict[str, dict[int, tuple[int, ...]]]:
    """List what survives of the inputs and outputs that lose indices: name -> dimension -> indices.

    Args:
        kept: surviving units of `groups`, shape (units + 1,).
    """
    found: dict[str, dict[int, tuple[int, ...]]] = {}
    for name, node in name_interface(graph):
        for dim, carried in enumerate(groups.values[node.name][0]):
            alive = carried.alive(kept) if carried.labels else np.ones(carried.size, np.bool_)
            if not alive.all():
                found.setdefault(name, {})[dim] = tuple(np.flatnonzero(alive).tolist())
    return found


def parents_of(name: str) -> list[str]:
    """List a dotted name and everything it lies in: `a.b.c`, `a.b`, `a`."""
    return [name, *(name[:i] for i in reversed(range(len(name))) if name[i] == ".")]


@dataclass(eq=False)
class Globs:
    """Globs of one option, and which of them have matched something.

    Args:
        option: `keep`, `only` or `free`, for errors.
        globs: as the user wrote them.
    """

    option: str
    globs: Sequence[str]
    used: set[str] = field(default_factory=set)

    def match(self, names: Iterable[str]) -> str:
        """Find the first glob that matches one of the names; empty if none does."""
        known = list(names)
        matching = [g for g in self.globs if any(fnmatchcase(n, g) for n in known)]
        self.used.update(matching)
        return matching[0] if matching else ""

    def match_dim(self, name: str, dim: int) -> str:
        """Find the glob for a dimension of an input or output.

        `output` stands for all its dimensions but the first, the batch; `output:1` for one.
        """
        names = parents_of(name)
        return self.match([*(names if dim else ()), *(f"{n}:{dim}" for n in names)])

    def check(self, names: Collection[str], kind: str) -> None:
        """Refuse globs that have matched nothing.

        Args:
            names: what they could have matched.
            kind: what that is called.

        Raises:
            InputError: naming the first such glob, and names that are like it.
        """
        for glob in self.globs:
            if glob not in self.used:
                stem = glob.strip("*.?").partition(":")[0]
                close = get_close_matches(stem, names, n=3, cutoff=0.5)
                listed = "`shrink inspect MODEL --all` lists the names"
                raise InputError(
                    f"matches no {kind}",
                    where=f"{self.option}={glob}",
                    fix=f"did you mean {' or '.join(close)}?" if close else listed,
                )


def layer_names(stored: Mapping[str, object]) -> dict[str, None]:
    """List the names that `keep` and `only` can match: tensors, layers and what those lie in."""
    return dict.fromkeys(p for name in stored for p in parents_of(name))
