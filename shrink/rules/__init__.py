"""All that is known of operators: what each couples, which literals follow a width, what it costs.

One family of operators per file. Begin with `registry.py` and `site.py`, then read `conv.py`;
`labels.py` is the algebra that the rules speak. Importing `shrink.rules.families` registers ours.
"""
