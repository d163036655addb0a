"""What a report says in words."""

from dataclasses import replace

from shrink.core.report import Cost
from shrink.report import sentences
from tests.report.samples import FULL, PROOF, SMALL


def test_the_budget_names_request_and_result() -> None:
    assert sentences.describe_budget(FULL.request) == "budget flops 0.5 (reached 0.4987)"
    assert sentences.describe_budget({}) == "no budget"


def test_a_failed_certificate_names_the_first_module_that_differs() -> None:
    failed = replace(PROOF, passed=False, error=0.25, first_difference="layer1.0.conv1")
    text = sentences.describe_certificate(failed)
    assert text.startswith("VERIFICATION FAILED")
    assert text.endswith("first at layer1.0.conv1")
    assert "2.5e-01 exceeds 1e-09" in text


def test_no_certificate_is_said_to_be_none() -> None:
    assert sentences.describe_certificate(None).startswith("not verified")


def test_latency_without_an_interval_is_a_plain_ratio() -> None:
    rows = sentences.compare_costs(replace(FULL, speedup=None))
    assert [row.ratio for row in rows if row.quantity == "latency, ms"] == ["55.0 %"]


def test_what_was_not_measured_has_no_row() -> None:
    assert [row.quantity for row in sentences.compare_costs(SMALL)] == ["MACs", "parameters"]


def test_frozen_places_beyond_three_are_counted() -> None:
    entry = {"reason": "user: keep=a*", "channels": 7, "places": ["a1", "a2", "a3", "a4", "a5"]}
    assert sentences.describe_frozen(entry) == "7 channels: user: keep=a* (a1, a2, a3 and 2 more)"


def test_uncounted_operators_are_named() -> None:
    cost = Cost(1, 1, uncounted={"aten::b": 1, "aten::a": 3})
    assert sentences.describe_uncounted(cost) == "MACs leave out: aten::a x3, aten::b x1"
    assert sentences.describe_uncounted(Cost(1, 1)) == ""


def test_nested_data_is_flattened_by_dots() -> None:
    nested = {"versions": {"torch": "2"}, "keep": ["a", "b"]}
    assert list(sentences.flatten(nested)) == [("versions.torch", "2"), ("keep", "a, b")]
