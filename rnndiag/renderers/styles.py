"""The one colour of each verdict and severity. Free of heavy imports: the rule catalogue uses it too."""

from __future__ import annotations

VERDICT_STYLES = {
    "healthy": "bold green",
    "vanishing": "bold blue",
    "exploding": "bold red",
    "mixed": "bold magenta",
    "inconclusive": "bold yellow",
    "invalid": "bold red",
}

SEVERITY_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold cyan"}
