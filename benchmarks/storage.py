"""Results as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from banach.mdp.storage import atomic_file


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    with atomic_file(path) as temporary:
        Path(temporary).write_text(json.dumps(content, indent=1) + "\n")
