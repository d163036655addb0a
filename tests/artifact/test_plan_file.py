"""Plan files: exact there and back, and refused when damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrink.artifact.plan_file import plan_from_text, plan_to_text, read_plan
from shrink.core.errors import ArtifactError
from shrink.core.plan import Decision, Plan
from tests.artifact.folders import PLAN

names = st.text(min_size=1, max_size=12)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(names, json_values, max_size=3)


@st.composite
def plans(draw: Any) -> Plan:
    shapes = draw(
        st.dictionaries(
            names, st.lists(st.integers(1, 40), min_size=1, max_size=4).map(tuple), max_size=4
        )
    )
    keep: dict[str, dict[int, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        if draw(st.booleans()):
            dims = draw(st.sets(st.integers(0, len(shape) - 1)))
            keep[name] = {
                d: tuple(sorted(draw(st.sets(st.integers(0, shape[d] - 1), min_size=1))))
                for d in dims
            }
    counts = st.integers(0, 9999)
    decisions = draw(
        st.lists(st.builds(Decision, names, counts, counts, counts), max_size=3).map(tuple)
    )
    return Plan(keep, shapes, draw(objects), decisions, draw(objects), draw(names))


@given(plans())
def test_text_and_back_is_the_same_plan(plan: Plan) -> None:
    assert plan_from_text(plan_to_text(plan)) == plan


def test_the_text_is_for_people() -> None:
    assert plan_to_text(PLAN) == (
        "{\n"
        '  "format": "shrink.plan",\n'
        '  "version": 1,\n'
        '  "model": "small",\n'
        '  "request": {"flops": 0.5},\n'
        '  "inputs": {"args": [{"tensor": {"shape": [1, 3, 8, 8], "dtype": "float32"}}],'
        ' "kwargs": {}},\n'
        '  "decisions": [\n'
        '    {"group": "0.weight:0", "size": 4, "kept": 3, "parts": 1}\n'
        "  ],\n"
        '  "tensors": {\n'
        '    "0.weight": {"shape": [4, 3, 3, 3], "keep": {"0": "0-1,3", "1": "2"}}\n'
        "  }\n"
        "}\n"
    )


def keeps(ranges: object, shape: object = (4, 3)) -> dict[str, Any]:
    return {"tensors": {"w": {"shape": shape, "keep": {"0": ranges}}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2"),
        ({"format": "other"}, "'other'"),
        ({"request": None}, "'request' is None"),
        ({"model": 3}, "'model' is 3"),
        ({"tensors": []}, "'tensors' is []"),
        ({"decisions": [{"group": "g", "size": True, "kept": 1, "parts": 1}]}, "'size' is True"),
        ({"decisions": [1]}, "expected an object"),
        (keeps("0,0"), "not ascending"),
        (keeps("2-1"), "not ascending"),
        (keeps("1,0-2"), "not ascending"),
        (keeps("0-4"), "outside its 4 indices"),
        (keeps("-1"), "not indices"),
        (keeps("٣"), "not indices"),
        (keeps(""), "not indices"),
        (keeps([0, 1]), "not indices"),
        (keeps("0", [True, 3]), "shape"),
        (keeps("0-99999999999", [10**11]), "shape"),
        (keeps("9" * 5000), "damaged plan"),
        ({"tensors": {"w": {"shape": [4], "keep": {"1": "0"}}}}, "no dim '1'"),
        ({"tensors": {"w": {"shape": [4], "keep": {"00": "0"}}}}, "no dim '00'"),
        ({"tensors": {"w": {"keep": {}}}}, "'shape' is missing"),
        (
            {
                "tensors": {
                    f"w{i}": {"shape": [1 << 24], "keep": {"0": "0-16777215"}} for i in range(2)
                }
            },
            "",
        ),
    ],
)
def test_a_damaged_plan_is_refused_with_a_remedy(
    change: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shrink.artifact.plan_file.MAX_INDICES", 1000)
    text = json.dumps(json.loads(plan_to_text(PLAN)) | change)
    with pytest.raises(ArtifactError) as caught:
        plan_from_text(text, where="p.json")
    assert message in caught.value.what
    assert caught.value.where == "p.json"
    assert caught.value.fix


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 1}', "[" * 100_000, b"\xff\xfe{"])
def test_text_that_is_no_object_is_refused(text: str | bytes) -> None:
    with pytest.raises(ArtifactError) as caught:
        plan_from_text(text, where="p.json")
    assert caught.value.where == "p.json"
    assert caught.value.fix


def test_a_file_is_read_and_an_oversized_or_missing_one_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "plan.json"
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_plan(path)
    path.write_text(plan_to_text(PLAN), encoding="utf-8")
    assert read_plan(path) == PLAN
    monkeypatch.setattr("shrink.artifact.plan_file.MAX_BYTES", 10)
    with pytest.raises(ArtifactError, match="more than the 10"):
        read_plan(path)
