"""The code of docs/RULES.md is run, its tests too."""

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "RULES.md"


def test_the_worked_example_does_what_the_page_says() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {"__name__": "rules_page"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name} block {number}", "exec"), names)  # noqa: S102  the page's own code
    tests = [found for name, found in names.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        assert callable(test)
        test()
