"""Random importance is seeded and leaves global generators alone."""

import numpy as np

from shrink.criteria.random import RandomOrder
from tests.plan.chains import chain


def test_the_seed_decides() -> None:
    groups = chain([5, 7])
    first = RandomOrder(1)(groups, {})
    assert first.shape == (12,)
    assert (first == RandomOrder(1)(groups, {})).all()
    assert (first != RandomOrder(2)(groups, {})).any()


def test_global_generator_is_untouched() -> None:
    before = np.random.get_state()[1].tolist()
    RandomOrder(1)(chain([5]), {})
    assert np.random.get_state()[1].tolist() == before
