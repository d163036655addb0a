"""`report.md`."""

from shrink.report.markdown import to_markdown
from tests.report.samples import FULL, SMALL, golden


def test_a_full_report_reads_as_expected() -> None:
    assert to_markdown(FULL) == golden("report.md")


def test_empty_sections_are_left_out() -> None:
    text = to_markdown(SMALL)
    assert "## Widths" not in text
    assert "## Kept whole" not in text
    assert "## Request" in text


def test_pipes_in_names_do_not_break_tables() -> None:
    text = to_markdown(SMALL)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.replace("\\|", "").count("|") in (3, 5) for line in rows)
