"""The URLs of the browser's modules and style sheets. They contain a hash of all files, so that browsers may cache them indefinitely."""

import hashlib
from pathlib import Path
from typing import Final

ASSET_FOLDER: Final = Path(__file__).parent
"""Contains static/, our own files, and vendor/, those of third-party libraries."""


def _hash_assets() -> str:
    digest = hashlib.sha256()
    for name in ("static", "vendor"):
        for file in sorted((ASSET_FOLDER / name).rglob("*")):
            if file.is_file():
                content = file.read_bytes()
                digest.update(f"{file.relative_to(ASSET_FOLDER).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


ASSET_VERSION: Final = _hash_assets()
STATIC_URL: Final = f"phi3/{ASSET_VERSION}/static"
"""The URL of static/, relative to the page. Its modules load vendor/ from beside it."""
ICONS_URL: Final = f"{STATIC_URL}/icons.svg"
