"""Where text for people goes: stderr, so that stdout is free for results and `--json`."""

from __future__ import annotations

from rich.console import Console

stderr = Console(stderr=True, highlight=False)
stdout = Console(highlight=False)
