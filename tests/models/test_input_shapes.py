"""Shapes that a person wrote."""

import pytest
import torch

from shrink import models
from shrink.core.errors import InputError


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
