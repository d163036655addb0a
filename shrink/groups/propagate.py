"""Run the rules over a graph, node by node, in execution order."""

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import fx

from shrink.core.errors import InputError, UnsupportedOpError
from shrink.core.graph import Graph, selects_by_value, shapes_of, tensors_of
from shrink.core.groups import Label, Units
from shrink.groups.globs import Globs, name_interface, parents_of
from shrink.rules import families, labels
from shrink.rules.labels import Reason, Store, Value
from shrink.rules.reduce import MEANS, reduced_dims
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
        produced: parameter name -> the dimensions whose channels begin there (a filter's, not
            those that it reads), where one operator takes it and something computed.
        deciding: the calls inside which something is selected by value.
    """

    store: Store
    values: dict[str, list[Value]] = field(default_factory=dict)
    stored: dict[str, Value] = field(default_factory=dict)
    produced: dict[str, tuple[int, ...]] = field(default_factory=dict)
    deciding: frozenset[int] = frozenset()


def propagate(
    graph: Graph, *, extra: Mapping[Any, Couple], strict: bool, free: Globs | None
) -> Labelled:
    """Label every tensor of the graph.

    Args:
        extra: rules of the caller, by operator; they come before the registered ones.
        strict: raise where an operator has no rule, instead of freezing what it touches.
        free: inputs and outputs of the network that may shrink too; None leaves all as the rules
            left them, rows with channels of their own included.

    Raises:
        InputError: inputs or outputs are free in a model whose control flow depends on data.
        UnsupportedOpError: an operator has no rule and `strict` is set.
    """
    found = Labelled(Store())
    if free is not None and free.globs and graph.capture == "real":
        raise InputError(
            "not possible in a model whose control flow depends on data",
            where=f"free={free.globs[0]}",
            fix="leave `free` out, or compress the part of the model that is free of it",
        )
    if graph.training is not None:  # its values are of no interest, only what it couples
        _run(graph.training, found, extra, free, strict=strict)
        found.values.clear()
    _run(graph, found, extra, free, strict=strict)
    return found


def _run(
    graph: Graph,
    found: Labelled,
    extra: Mapping[Any, Couple],
    free: Globs | None,
    *,
    strict: bool,
) -> None:
    found.deciding = _deciding(graph)
    interface = name_interface(graph)
    names = {node.name: name for name, node in interface}
    for node in graph.fx.nodes:
        if node.op == "placeholder":
            found.values[node.name] = [_input(found, node, names.get(node.name, ""), free)]
            found.values[node.name][0].origin = "network input"
        elif node.op == "get_attr":
            found.values[node.name] = [_stored(graph, found, node)]
        elif node.op == "call_function":
            found.values[node.name] = _call(graph, found, node, extra, strict=strict)
    if free is None:
        return
    own = _channels_of(found, free)
    for name, node in interface:
        kind = "network input" if node.op == "placeholder" else "network output"
        reason = Reason(kind, place(graph, node) if "call" in node.meta else "")
        for dim in range(found.values[node.name][0].rank):
            _close(found.store, found.values[node.name][0], dim, reason, free, name, own)


def _input(found: Labelled, node: fx.Node, name: str, free: Globs | None) -> Value:
    """Make labels for the dimensions of an input that may turn out to be free."""
    value = labels.unlabelled(node.meta["val"].shape)
    value.origin = "network input"
    if free is None:
        return value
    by_layer = any(not g.startswith(("input", "output")) for g in free.globs)
    for dim, size in enumerate(value.shape):
        if size > 1 and (free.match_dim(name, dim) or (by_layer and dim)):
            value.labels[dim] = (Label(found.store.mint(size)),)
    return value


def _channels_of(found: Labelled, free: Globs) -> Units:
    """List the labels of the layers that are named free."""
    ids = [
        found.store.find(label.ids).ravel()
        for name, value in found.stored.items()
        if free.match(parents_of(name))
        for given in value.labels
        for label in given or ()
    ]
    return np.unique(np.concatenate(ids)) if ids else np.zeros(0, dtype=np.int64)


def _close(
    store: Store, value: Value, dim: int, reason: Reason, free: Globs, name: str, own: Units
) -> None:
    """Freeze a dimension of an input or output, unless it is free: then no row has its own."""
    given = labels.of(store, value, dim)
    by_layer = dim and any(np.isin(store.find(x.ids), own).any() for x in given)
    if by_layer or free.match_dim(name, dim):
        labels.flat(store, value, dim)
    else:
        labels.freeze_dim(store, value, dim, reason)


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
        source: Any  # a node
        index: Any  # an int, among results that need not all be tensors
        source, index = node.args
        return [found.values[source.name][len(tensors_of(source.meta["val"][:index]))]]
    shapes = shapes_of(node.meta["val"])
    named = bind(node.target, node.args, node.kwargs)
    arguments = {name: _labelled(found, value) for name, value in named.items()}
    packed = frozenset(name for name, value in named.items() if _is_packed(value))
    site = Site(found.store, node.target, arguments, shapes, place(graph, node), packed)
    rule = find_couple(node.target, extra)
    if rule is None:
        return _frozen(site, f"no rule for {name_of(node.target)}", strict=strict)
    if graph.capture == "real":
        _freeze_normalised(site)
        if node.target in MEANS and node.meta["call"] in found.deciding:
            x = site.values()[0]
            dims = reduced_dims(site.arguments.get("dim"), x.rank)
            site.freeze(x, dims, "averaged, in a module whose steps depend on data")
    first = found.store.count
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
    _name_origin(site, values)
    _note_produced(found, site, first)
    return values


def _note_produced(found: Labelled, site: Site, first: int) -> None:
    """Note the dimensions of stored arguments whose labels are tied to none older than this call.

    Args:
        first: the first label made in this call.
    """
    given = site.values()
    if all(value.stored for value in given):
        return
    for value in given:
        if value.stored and value.stored not in found.produced:
            found.produced[value.stored] = tuple(
                dim
                for dim, own in enumerate(value.labels)
                if own and all((found.store.find(x.ids) >= first).all() for x in own)
            )


def _name_origin(site: Site, values: list[Value]) -> None:
    """Remember of values without labels that they come from the network's inputs."""
    origin = next((v.origin for v in site.values() if v.origin), "")
    for value in values if origin else ():
        if not value.origin and not any(found is None or found for found in value.labels):
            value.origin = origin


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


def _deciding(graph: Graph) -> frozenset[int]:
    made: set[int] = set()
    for node in filter(selects_by_value, graph.ops):
        index = node.meta["call"]
        while index >= 0:
            made.add(index)
            index = graph.calls[index].parent
    return frozenset(made)


def _is_packed(value: Any) -> bool:
    tensors = tensors_of(value.meta["val"]) if isinstance(value, fx.Node) else []
    return bool(tensors) and tensors[0].is_contiguous() and not tensors[0].storage_offset()


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
