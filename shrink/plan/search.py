"""Walking down the ladders to a budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shrink.plan.ladder import Counts, Ladders

CostFunction = Callable[[Counts], NDArray[np.float64]]
"""Exact cost of kept counts per part: shape (..., groups) -> (...)."""

_BATCH = 128  # candidates evaluated at once: bounds the memory of large models
_EXHAUSTIVE = 4096  # combinations up to which all are tried
_MOVES = 512  # single moves that swaps are made of
_SHORTLIST = 48  # swaps evaluated exactly in a round
_ROUNDS = 12
_SCATTERED = 4096  # random states, near ones and as many far ones
_SCATTER_SIZE = 2**18  # states times components that they may take
_MOVED = 4.0  # components that a near one moves on average


@dataclass(frozen=True, eq=False)
class Found:
    """Where a search ended.

    Args:
        levels: level of every component, shape (components,).
        cost: its cost; above the budget only if the floor of every ladder is.
    """

    levels: Counts
    cost: float


@dataclass(frozen=True, eq=False)
class Search:
    """Ladders, the place of every step, the cost, and the window that it has to meet.

    Args:
        ladders: the admissible counts.
        places: per component, the place of the step into each level (`place_steps`).
        cost: exact cost of counts.
        low, high: the window, both included.
    """

    ladders: Ladders
    places: Sequence[NDArray[np.float64]]
    cost: CostFunction
    low: float
    high: float

    def run(self) -> Found:
        """Find levels whose cost lies in the window, or the closest one below that was seen.

        The common order of steps gives the widest state within the budget; then single steps are
        taken back, latest first, while they fit; then steps are exchanged between components.
        """
        start = self._descend()
        if start.cost > self.high or start.cost >= self.low:
            return start
        filled = self._fill(start)
        if filled.cost >= self.low:
            return filled
        if float(np.prod(self.ladders.lengths.astype(np.float64))) <= _EXHAUSTIVE:
            return self._try_all(start)
        return self._swap(filled)

    def scatter(self, found: Found) -> Found:
        """Try seeded random states, near and far: what the moves of `run` could not reach."""
        lengths = self.ladders.lengths
        random = np.random.default_rng(0)
        shape = (min(_SCATTERED, _SCATTER_SIZE // len(lengths) + 1), len(lengths))
        moved = random.random(shape) < _MOVED / len(lengths)
        near = found.levels + moved * random.integers(-2, 3, shape)
        far = random.integers(0, lengths, shape)
        levels = np.concatenate([found.levels[None], np.clip(near, 0, lengths - 1), far])
        return self._choose(found, levels)

    def cost_of(self, counts: Counts) -> NDArray[np.float64]:
        """Evaluate candidates of shape (candidates, groups), a batch at a time."""
        batches = [self.cost(counts[i : i + _BATCH]) for i in range(0, len(counts), _BATCH)]
        return np.concatenate(batches) if batches else np.zeros(0)

    def _costs(self, levels: Counts) -> NDArray[np.float64]:
        return self.cost_of(self.ladders.at(levels))

    def _found(self, levels: Counts) -> Found:
        return Found(levels, float(self.cost(self.ladders.at(levels))))

    def _place(self, components: Counts, levels: Counts) -> NDArray[np.float64]:
        """Return the place of the step into each of `levels` of each of `components`."""
        starts = np.cumsum(self.ladders.lengths) - self.ladders.lengths
        result: NDArray[np.float64] = self._flat_places[starts[components] + levels]
        return result

    @cached_property
    def _flat_places(self) -> NDArray[np.float64]:
        return np.concatenate(self.places)

    def _descend(self) -> Found:
        """Take as many steps of the common order as the budget needs."""
        lengths = self.ladders.lengths
        owners = np.repeat(np.arange(len(lengths)), lengths - 1)
        order = np.argsort(np.concatenate([place[1:] for place in self.places]), kind="stable")
        owners = owners[order]

        def after(steps: int) -> Counts:
            taken: Counts = np.bincount(owners[:steps], minlength=len(lengths)).astype(np.int64)
            return taken

        few, enough = 0, len(owners)
        while enough - few > 1:
            steps = (few + enough) // 2
            if self._found(after(steps)).cost <= self.high:
                enough = steps
            else:
                few = steps
        return self._found(after(enough))

    def _fill(self, found: Found) -> Found:
        """Take single steps back, latest first, while the cost fits."""
        while found.cost < self.low:
            raisable = np.flatnonzero(found.levels > 0)
            raised = np.repeat(found.levels[None], len(raisable), axis=0)
            raised[np.arange(len(raisable)), raisable] -= 1
            fits = self._costs(raised) <= self.high
            if not fits.any():
                break
            place = self._place(raisable, found.levels[raisable])
            wanted = raisable[fits][np.argsort(-place[fits], kind="stable")]
            found = self._raise_first(found, wanted)
        return found

    def _raise_first(self, found: Found, components: Counts) -> Found:
        """Raise as many of `components`, in order, as fit together: at least the first."""
        best, some, too_many = found, 0, len(components) + 1
        while too_many - some > 1:
            number = 1 if some == 0 else (some + too_many) // 2
            levels = found.levels.copy()
            levels[components[:number]] -= 1
            candidate = self._found(levels)
            if candidate.cost <= self.high:
                best, some = candidate, number
            else:
                too_many = number
        return best

    def _try_all(self, start: Found) -> Found:
        """Try every combination of levels: the least distorted in the window, or the closest."""
        lengths = self.ladders.lengths
        grids = np.meshgrid(*(np.arange(n) for n in lengths), indexing="ij")
        levels = np.stack([grid.ravel() for grid in grids], axis=1).astype(np.int64)
        return self._choose(start, levels)

    def _choose(self, start: Found, levels: Counts) -> Found:
        """Return the levels in the window that distort the least, else the closest below."""
        costs = self._costs(levels)
        distortion = sum(
            np.abs(place[levels[:, c]] - place[start.levels[c]])
            for c, place in enumerate(self.places)
        )
        within = (costs >= self.low) & (costs <= self.high)
        below = costs <= self.high
        best = (
            np.argmin(np.where(within, distortion, np.inf))
            if within.any()
            else np.argmax(np.where(below, costs, -np.inf))
        )
        return Found(levels[best], float(costs[best]))

    def _swap(self, found: Found) -> Found:
        """Exchange steps between two components as long as that comes closer to the budget."""
        for _ in range(_ROUNDS):
            better = self._swap_once(found)
            if better is None or better.cost >= self.low:
                return better or found
            found = better
        return found

    def _swap_once(self, found: Found) -> Found | None:
        """Return the least distorting swap into the window, else the closest one below, if any."""
        moves, distortion = self._moves(found.levels)
        if not len(moves):
            return None
        changes = self._costs(found.levels + moves) - found.cost
        up, down = np.flatnonzero(changes > 0), np.flatnonzero(changes < 0)
        if not len(up):
            return None
        # alone as well as paired: column 0 is "no second move"
        pairs = changes[up][:, None] + np.concatenate([[0.0], changes[down]])[None]
        strain = distortion[up][:, None] + np.concatenate([[0.0], distortion[down]])[None]
        owner = np.argmax(moves != 0, axis=1)
        same = owner[up][:, None] == np.concatenate([[-1], owner[down]])[None]
        # the sum ignores how two moves interact, so it only proposes: nearly right ones first
        gap_low, gap_high = self.low - found.cost, self.high - found.cost
        inside = (pairs >= gap_low) & (pairs <= gap_high) & ~same
        miss = np.abs(pairs - (gap_low + gap_high) / 2)
        miss[same] = np.inf
        proposals = np.concatenate(
            [
                np.argsort(np.where(inside, strain, np.inf), axis=None, kind="stable")[:_SHORTLIST],
                np.argsort(miss, axis=None, kind="stable")[:_SHORTLIST],
            ]
        )
        first, second = np.divmod(proposals, pairs.shape[1])
        paired = np.concatenate([np.zeros_like(moves[:1]), moves[down]])[second]
        levels = found.levels + moves[up][first] + paired
        costs = self._costs(levels)
        usable = (costs <= self.high) & ~same.ravel()[proposals]
        within = usable & (costs >= self.low)
        if within.any():
            best = int(np.argmin(np.where(within, strain.ravel()[proposals], np.inf)))
        elif (usable & (costs > found.cost)).any():
            best = int(np.argmax(np.where(usable, costs, -np.inf)))
        else:
            return None
        return Found(levels[best], float(costs[best]))

    def _moves(self, levels: Counts) -> tuple[Counts, NDArray[np.float64]]:
        """List moves of one component, (moves, components), and how far out of order each is."""
        reach = max(1, _MOVES // (2 * len(levels)))
        shifts = [s for distance in range(1, reach + 1) for s in (-distance, distance)]
        owner = np.tile(np.arange(len(levels)), len(shifts))
        shift = np.repeat(shifts, len(levels))
        target = levels[owner] + shift
        possible = (target >= 0) & (target < self.ladders.lengths[owner])
        owner, shift, target = owner[possible], shift[possible], target[possible]
        moves = np.zeros((len(owner), len(levels)), dtype=np.int64)
        moves[np.arange(len(owner)), owner] = shift
        return moves, np.abs(self._place(owner, target) - self._place(owner, levels[owner]))
