"""The URL of the browser's modules and style sheets. It contains a hash of them, so that browsers may cache them indefinitely."""

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
STATIC_ADDRESS: Final = f"phi3/{ASSET_VERSION}/static"
"""Where static/ is served, relative to the page. Its modules find vendor/ beside it."""
ICONS_ADDRESS: Final = f"{STATIC_ADDRESS}/icons.svg"
