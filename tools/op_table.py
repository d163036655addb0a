"""Write docs/OPERATORS.md from the registry of rules: which operators are known, and what they tie.

python tools/op_table.py            rewrite the table
python tools/op_table.py --check    exit 1 if it is stale
"""

import sys
from collections import defaultdict
from pathlib import Path

from shrink.rules import families
from shrink.rules.registry import coupling_rules, find_normalised, find_resize

TABLE = Path(__file__).parents[1] / "docs" / "OPERATORS.md"


def render() -> str:
    """Write the table: a row per rule, its operators, and what it says of itself."""
    rows = defaultdict(list)
    for operator, rule in coupling_rules().items():
        rows[rule].append(operator)
    lines = [
        "# Operators",
        "",
        "Written by `python tools/op_table.py` from the rules in `shrink/rules/`. Operators that",
        "torch tags as element-wise need no row. Others freeze what they touch, and are reported.",
        "",
        "| family | operators | what is tied | literals follow | normalises |",
        "|---|---|---|---|---|",
    ]
    homes = {family.__name__: family.__name__.rpartition(".")[2] for family in families.FAMILIES}
    table = []
    for rule, operators in rows.items():
        first = (rule.__doc__ or "").strip().splitlines()[0] if rule.__doc__ else ""
        names = ", ".join(f"`{str(o).removeprefix('aten.')}`" for o in sorted(operators, key=str))
        follows = "yes" if any(find_resize(o) for o in operators) else ""
        normed = "yes" if any(find_normalised(o) for o in operators) else ""
        home = homes.get(rule.__module__, rule.__module__.rpartition(".")[2])
        table.append(f"| {home} | {names} | {first} | {follows} | {normed} |")
    return "\n".join([*lines, *sorted(table), ""])


def main() -> int:
    """Rewrite the table, or compare it."""
    text = render()
    if "--check" in sys.argv[1:]:
        stale = not TABLE.is_file() or TABLE.read_text() != text
        if stale:
            print("docs/OPERATORS.md is stale: run python tools/op_table.py")
        return int(stale)
    TABLE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
