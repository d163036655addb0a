"""`report.json`: written, read, refused."""

import json
from typing import Any

import pytest

from shrink.core.errors import ArtifactError
from shrink.report.document import REQUIRED, from_json, to_json
from tests.report.samples import FULL, SMALL


@pytest.mark.parametrize("report", [FULL, SMALL], ids=["full", "small"])
def test_json_and_back_is_the_identity(report: Any) -> None:
    assert from_json(to_json(report)) == report


def test_the_contracted_keys_are_there() -> None:
    content = json.loads(to_json(FULL))
    assert set(REQUIRED) <= content.keys()
    assert content["schema_version"] == 1
    assert content["before"]["latency_ms"] == {
        "median": 82.14,
        "p10": 80.0,
        "p90": 85.31,
        "runs": 50,
    }
    assert {"macs", "params", "peak_bytes"} <= content["after"].keys()


def test_unknown_keys_are_ignored() -> None:
    content = {**json.loads(to_json(FULL)), "future": 1}
    assert from_json(json.dumps(content)) == FULL


def _without(key: str) -> str:
    return json.dumps({k: v for k, v in json.loads(to_json(FULL)).items() if k != key})


def _with(**changes: Any) -> str:
    return json.dumps({**json.loads(to_json(FULL)), **changes})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not a report"),
        ("{", "not a report"),
        ("[]", "no JSON object"),
        (b"\xff\xfe", "not a report"),
        ("[" * 100_000, "not a report"),
        (_without("before"), "lacks before"),
        (_with(before={"macs": "many", "params": 1}), "$.before.macs"),
        (_with(schema_version=2), "schema 2"),
        (_with(layers=[{"name": "a"}]), "$.layers[0]"),
        (_with(verification=3), "$.verification"),
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "binary",
        "deep",
        "key",
        "type",
        "later",
        "nested",
        "certificate",
    ],
)
def test_damaged_reports_are_refused_by_name(text: str | bytes, problem: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        from_json(text, where="out/report.json")
    assert caught.value.where == "out/report.json"
    assert problem in caught.value.what
    assert caught.value.fix


def test_numbers_that_json_cannot_hold_are_no_report() -> None:
    with pytest.raises(ValueError, match="JSON"):
        to_json({"ratio": float("nan")})
