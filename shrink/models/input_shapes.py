"""Example inputs from shapes that a person wrote."""

import re
from typing import Any

import torch

from shrink.core.errors import InputError
from shrink.core.inputs import Inputs, make_inputs
from shrink.models.source import describe_tensor


def parse_inputs(text: str, *, seed: int = 0) -> Inputs:
    """Make random example inputs from shapes.

    Args:
        text: `1,3,224,224`; several inputs are separated by `;`, a dtype follows a colon
            (`1,128:int64`, integers are drawn from 0 and 1), a keyword comes before an equals
            sign (`mask=1,128:bool`).
        seed: of the values.

    Raises:
        InputError: the text is not of that form.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for entry in text.split(";"):
        match = re.fullmatch(
            r"\s*(?:(?P<key>\w+)\s*=)?\s*(?P<shape>\d+(?:\s*,\s*\d+)*)\s*(?::(?P<dtype>\w+))?\s*",
            entry,
        )
        dtype = (match and match["dtype"]) or "float32"
        if not match or not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise InputError(
                f"cannot read {entry!r} as a shape",
                where="--input",
                fix="write --input 1,3,224,224 or --input '1,128:int64;mask=1,128:bool'",
            )
        shape = [int(size) for size in match["shape"].split(",")]
        tensor = describe_tensor(*shape, dtype=dtype)
        if match["key"]:
            kwargs[match["key"]] = tensor
        else:
            args.append(tensor)
    return make_inputs({"args": args, "kwargs": kwargs}, seed=seed)
