"""The terminal's tables, as text."""

from dataclasses import replace

import pytest

from shrink.core.report import Certificate, Cost
from shrink.report import terminal
from tests.report.samples import FULL, INSPECTION, PROOF, SMALL, golden


def test_a_full_report_reads_as_expected() -> None:
    assert terminal.to_text(terminal.show_report(FULL, layers=True)) == golden("report.txt")


def test_several_reports_are_compared_one_per_line() -> None:
    text = terminal.to_text(terminal.show_comparison({"a": FULL, "b": SMALL}), width=120)
    assert text == golden("comparison.txt")


def test_an_inspection_lists_groups_and_reasons() -> None:
    text = terminal.to_text(terminal.show_inspection("resnet50", INSPECTION), width=80)
    assert text == golden("inspection.txt")


def test_a_measurement_shows_one_column() -> None:
    shown = terminal.show_measurement("resnet50", FULL.before, FULL.environment, FULL.warnings)
    assert terminal.to_text(shown) == golden("measurement.txt")


def test_names_in_brackets_are_not_markup() -> None:
    text = terminal.to_text(terminal.show_report(SMALL))
    assert "net [v1]|x" in text


@pytest.mark.parametrize(
    ("certificate", "style"),
    [
        (PROOF, "green"),
        (replace(PROOF, passed=False), "bold red"),
        (None, "bold red"),
    ],
    ids=["passed", "failed", "none"],
)
def test_only_a_proof_that_passed_is_green(certificate: Certificate | None, style: str) -> None:
    shown = terminal.show_report(replace(FULL, verification=certificate))
    assert style in [str(getattr(part, "style", "")) for part in shown.renderables]


def test_a_model_without_groups_has_no_empty_table() -> None:
    nothing = {**INSPECTION, "groups": []}
    text = terminal.to_text(terminal.show_inspection("m", nothing))
    assert "units" not in text
    assert "network output" in text


def test_a_measurement_without_latency_leaves_the_row_out() -> None:
    text = terminal.to_text(terminal.show_measurement("m", Cost(10, 20), {}))
    assert "latency" not in text
    assert "parameters" in text
