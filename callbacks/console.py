"""The one console that callbacks write to, so that lines from one of them appear above another's progress bar."""

from rich.console import Console

CONSOLE = Console(highlight=False)
