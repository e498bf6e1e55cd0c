"""Where the configuration of a --config lies: at its path, or else among those that are installed with vnc."""

from __future__ import annotations

from pathlib import Path

from vnc.errors import UserError


def find_config(path: Path) -> Path:
    """`path`, or the file of its name that came with vnc where `path` is configs/NAME and not there.

    UserError when there is none, or when it is not YAML."""
    import yaml

    installed = Path(__file__).parent / "configs" / path.name
    if not path.exists():
        if path.parent.name != "configs" or not installed.is_file():
            known = ", ".join(f"configs/{file.name}" for file in sorted(installed.parent.glob("*.yaml")))
            raise UserError(f"{path}: no such configuration file; vnc comes with {known}")
        path = installed
    try:
        yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return path
