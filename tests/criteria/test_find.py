"""Names of criteria."""

import numpy as np
import pytest

from shrink.core.errors import InputError
from shrink.criteria.find import find_criterion
from tests.plan.chains import chain


@pytest.mark.parametrize("name", ["l1", "l2", "random"])
def test_built_in_names_resolve(name: str) -> None:
    assert find_criterion(name).name == name


def test_the_seed_reaches_random() -> None:
    groups = chain([9])
    a, b = (find_criterion("random", seed=seed)(groups, {}) for seed in (1, 2))
    assert (a != b).any()


def test_own_criterion_is_returned() -> None:
    class Ones:
        name = "ones"

        def __call__(self, groups, tensors):
            return np.ones(groups.unit_count + len(tensors))

    own = Ones()
    assert find_criterion(own) is own


@pytest.mark.parametrize(("name", "fix"), [("L2", "'l2'"), ("randm", "'random'"), ("zzz", "'l2'")])
def test_unknown_name_suggests_the_nearest(name: str, fix: str) -> None:
    with pytest.raises(InputError, match="l1, l2, random") as caught:
        find_criterion(name)
    assert (caught.value.where, caught.value.fix) == (f"criterion={name}", f"criterion={fix}")


def test_object_that_is_no_criterion_is_refused() -> None:
    with pytest.raises(InputError, match="int is no criterion") as caught:
        find_criterion(3)
    assert (caught.value.where, caught.value.fix) == ("criterion", "criterion='l2'")
