"""Run the rules over a graph, node by node, in execution order."""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from shrink.core.errors import UnsupportedOpError
from shrink.core.graph import Graph, shapes_of
from shrink.rules import families, labels
from shrink.rules.labels import Reason, Store, Value
from shrink.rules.registry import Couple, find_couple, find_normalised
from shrink.rules.site import Call, Site, bind

_RULES_ARE_LOADED = families.FAMILIES


@dataclass(eq=False)
class Labelled:
    """A graph whose every tensor has labels.

    Args:
        store: what is known of the labels.
        values: node name -> the labels of every tensor it returns.
        stored: parameter or buffer name -> its labels, for those that are read.
    """

    store: Store
    values: dict[str, list[Value]] = field(default_factory=dict)
    stored: dict[str, Value] = field(default_factory=dict)


def propagate(
    graph: Graph, *, extra: Mapping[Any, Couple], strict: bool, free_outputs: bool = False
) -> Labelled:
    """Label every tensor of the graph.

    Args:
        extra: rules of the caller, by operator; they come before the registered ones.
        strict: raise where an operator has no rule, instead of freezing what it touches.
        free_outputs: let the network's outputs shrink too.

    Raises:
        UnsupportedOpError: an operator has no rule and `strict` is set.
    """
    found = Labelled(Store())
    if graph.training is not None:  # its values are of no interest, only what it couples
        _run(graph.training, found, extra, strict=strict, free_outputs=free_outputs)
        found.values.clear()
    _run(graph, found, extra, strict=strict, free_outputs=free_outputs)
    return found


def _run(
    graph: Graph,
    found: Labelled,
    extra: Mapping[Any, Couple],
    *,
    strict: bool,
    free_outputs: bool,
) -> None:
    for node in graph.fx.nodes:
        if node.op == "placeholder":
            found.values[node.name] = [labels.unlabelled(node.meta["val"].shape)]
        elif node.op == "get_attr":
            found.values[node.name] = [_stored(graph, found, node)]
        elif node.op == "call_function":
            found.values[node.name] = _call(graph, found, node, extra, strict=strict)
        elif node.op == "output" and not free_outputs:
            for source in _nodes(node.args):
                for value in found.values[source.name]:
                    labels.freeze_value(found.store, value, Reason("network output"))


def _stored(graph: Graph, found: Labelled, node: fx.Node) -> Value:
    name = graph.tensors[node.name]
    if name not in graph.stored:
        return labels.unlabelled(node.meta["val"].shape)
    if name not in found.stored:
        shape = tuple(node.meta["val"].shape)
        found.stored[name] = Value(shape, [None] * len(shape), name)
    return found.stored[name]


def _call(
    graph: Graph, found: Labelled, node: fx.Node, extra: Mapping[Any, Couple], *, strict: bool
) -> list[Value]:
    if node.target is operator.getitem:
        source, index = node.args
        return [found.values[source.name][index]]  # type: ignore[union-attr,index]  # a node, an int
    shapes = shapes_of(node.meta["val"])
    arguments = {
        name: _labelled(found, value)
        for name, value in bind(node.target, node.args, node.kwargs).items()
    }
    where = place(graph, node)
    site = Site(found.store, node.target, arguments, shapes, where)
    rule = find_couple(node.target, extra)
    if rule is None:
        return _frozen(site, f"no rule for {name_of(node.target)}", strict=strict)
    if graph.capture == "real":
        _freeze_normalised(site)
    try:
        made = rule(site)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Ties made so far only restrict; what the rule did not get to is frozen by name.
        return _frozen(site, f"the rule for {name_of(node.target)} fails: {error}", strict=strict)
    values = made if isinstance(made, list) else [made]
    if [v.shape for v in values] != list(shapes):
        given = [v.shape for v in values]
        text = f"the rule for {name_of(node.target)} gives {given} instead of {list(shapes)}"
        return _frozen(site, text, strict=strict)
    return values


def _frozen(site: Site, text: str, *, strict: bool) -> list[Value]:
    if strict and site.values():
        raise UnsupportedOpError(
            text,
            where=site.where,
            fix="register a rule with @shrink.couples, or leave out strict=True to freeze it",
        )
    site.freeze_all(text)
    return [labels.unlabelled(shape) for shape in site.shapes]


def _freeze_normalised(site: Site) -> None:
    """Freeze what a norm is defined over, where the certificate can only put zeros there.

    A model whose control flow depends on data is verified by its own code with zeroed weights.
    """
    rule = find_normalised(site.operator)
    if rule is None:
        return
    shapes = {n: v.shape for n, v in site.arguments.items() if isinstance(v, Value)}
    call = Call(site.operator, site.arguments, (), (), shapes, shapes, {})
    for name, dims in rule(call).items():
        site.freeze(site[name], dims, "normalised, in a model whose control flow depends on data")


def _labelled(found: Labelled, value: Any) -> Any:
    if isinstance(value, fx.Node):
        return found.values[value.name][0]
    if isinstance(value, list | tuple):
        return [_labelled(found, v) for v in value]
    return value


def place(graph: Graph, node: fx.Node) -> str:
    """Name the module and source line of a node."""
    path = graph.calls[node.meta["call"]].path if graph.calls else ""
    source = node.meta.get("source", "")
    return f"{path} ({source})" if path and source else path or source


def name_of(operator_: Any) -> str:
    """Name an operator as users know it: `aten::relu`."""
    schema = getattr(operator_, "_schema", None)
    return str(schema.name) if schema is not None else str(operator_)


def _nodes(value: Any) -> Collection[fx.Node]:
    found: list[fx.Node] = []
    fx.map_arg(value, found.append)
    return found
