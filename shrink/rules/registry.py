"""The tables of rules, filled when rule files are imported and never changed by a run."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch

from shrink.core.errors import InputError

if TYPE_CHECKING:
    from shrink.rules.labels import Value
    from shrink.rules.site import Call, Resized, Site

Operator = Any  # torch.ops overloads have no public type
Couple = Callable[["Site"], "Value | list[Value]"]
Resize = Callable[["Call"], "Resized"]
Normalised = Callable[["Call"], Mapping[str, tuple[int, ...]]]


_COUPLES: dict[Operator, Couple] = {}
_RESIZES: dict[Operator, Resize] = {}
_NORMALISES: dict[Operator, Normalised] = {}


def _register(table: dict[Operator, Any], operators: tuple[Operator, ...], rule: Any) -> None:
    for operator in operators:
        key = _key(operator)
        if key in table:
            raise InputError("a rule is registered already", where=str(operator))
        table[key] = rule


def _key(operator: Operator) -> Operator:
    """Write an operator with all its overloads, or a custom one, as its qualified name."""
    name = getattr(operator, "_qualname", getattr(operator, "_qualified_op_name", None))
    return name if isinstance(name, str) else operator


def couples(*operators: Operator) -> Callable[[Couple], Couple]:
    """Register the rule that ties the dimensions of these operators' arguments and results.

    An operator is an overload (`torch.ops.aten.relu.default`), an operator with all its overloads
    (`torch.ops.mylib.scan`), what `torch.library.custom_op` returns, or a qualified name
    (`"torchvision::roi_align"`) where the library that defines it may not be loaded.
    """

    def register(rule: Couple) -> Couple:
        _register(_COUPLES, operators, rule)
        return rule

    return register


def resizes(*operators: Operator) -> Callable[[Resize], Resize]:
    """Register the rule that rewrites the literals of a call after its tensors shrank."""

    def register(rule: Resize) -> Resize:
        _register(_RESIZES, operators, rule)
        return rule

    return register


def normalises(*operators: Operator) -> Callable[[Normalised], Normalised]:
    """Register the dimensions over which an operator is defined by the indices that are there.

    A norm's statistics, a softmax or a maximum over fewer channels are those of the channels kept;
    a sum or a contraction needs no line, for what is removed counts as zero.
    """

    def register(rule: Normalised) -> Normalised:
        _register(_NORMALISES, operators, rule)
        return rule

    return register


def _registered(table: Mapping[Operator, Any], operator: Operator) -> Any:  # Any: a rule
    """Look an operator up by itself or by its name."""
    found = table.get(operator)
    if found is None and hasattr(operator, "_schema"):
        found = table.get(operator._schema.name)
    return found


def is_pointwise(operator: Operator) -> bool:
    """Tell whether torch declares the operator element-wise (with broadcasting)."""
    return torch.Tag.pointwise in getattr(operator, "tags", ())


def find_couple(operator: Operator, extra: Mapping[Operator, Couple]) -> Couple | None:
    """Find the coupling rule: the caller's own, a registered one, or torch's own declaration."""
    own = {_key(key): rule for key, rule in extra.items()}
    rule: Couple | None = _registered(own, operator) or _registered(_COUPLES, operator)
    if rule is None and is_pointwise(operator):
        return _COUPLES[torch.ops.aten.add.Tensor]
    return rule


def find_resize(operator: Operator) -> Resize | None:
    """Find the rule for an operator's literals; none: it has no literal that follows a width."""
    return _registered(_RESIZES, operator)  # type: ignore[no-any-return]  # a rule


def find_normalised(operator: Operator) -> Normalised | None:
    """Find the dimensions an operator normalises over; none: it has no such."""
    return _registered(_NORMALISES, operator)  # type: ignore[no-any-return]  # a rule


def coupling_rules() -> dict[Operator, Couple]:
    """List the operators with a coupling rule, and the rule."""
    return dict(_COUPLES)
