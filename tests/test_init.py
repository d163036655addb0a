"""The public names: importable from `shrink`, whatever was imported before."""

import subprocess
import sys

import pytest

import shrink


@pytest.mark.parametrize("name", shrink.__all__)
def test_public_names_are_what_they_say(name: str) -> None:
    found = getattr(shrink, name)
    assert found.__name__ == name
    assert callable(found)


def test_folders_do_not_hide_the_functions_of_their_name() -> None:
    code = (
        "import shrink.measure.macs, shrink.verify, shrink; from shrink.measure import latency;"
        "assert callable(shrink.measure) and callable(shrink.verify) and latency.compare_latency"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)  # noqa: S603
    assert done.returncode == 0, done.stderr.decode()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = shrink.nothing
