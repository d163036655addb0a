"""Plain data in, text out: terminal, JSON and Markdown of what a run found. No torch here."""
