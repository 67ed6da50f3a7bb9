"""What the project consists of besides its own code: locked packages, libraries of the page, and weights, with their licences."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from packaging.utils import canonicalize_name

from models.presets import Preset, load_preset, preset_keys
from tests.support.lock import ROOT, locked_names, read_pins

_VENDOR = ROOT / "phi3_ui" / "ui" / "vendor"

# What a package's metadata lacks, read in its licence file; and, as their metadata says it, packages of other platforms.
_LICENCES = {
    "axe-playwright-python": "MIT",
    "huey": "MIT",
    "skops": "MIT",
    "appnope": "BSD-2-Clause",
    "colorama": "BSD License",
    "pywin32": "PSF",
    "tzdata": "Apache-2.0",
    "waitress": "ZPL 2.1",
}


@dataclass(frozen=True)
class Package:
    """A pinned Python package."""

    name: str
    version: str
    licence: str
    """As its metadata says it."""
    is_dev: bool
    """Whether only development needs it."""


@dataclass(frozen=True)
class PageLibrary:
    """An npm package whose files the page loads from the app."""

    file: str
    """Its file or folder in phi3_ui/ui/vendor."""
    name: str
    version: str
    licence: str


def read_packages() -> list[Package]:
    """All pinned packages, by name."""
    declared = _declared_licences()
    _, _, dev = locked_names()
    packages = []
    for name, pin in sorted(read_pins().items()):
        licence = _LICENCES.get(name) or declared.get(name, "UNKNOWN")
        if licence == "UNKNOWN":
            raise SystemExit(f"The metadata of {name} declares no licence: add it to tests/support/inventory.py.")
        packages.append(Package(name, next(iter(pin.specifier)).version, licence, name in dev))
    return packages


@cache
def _declared_licences() -> dict[str, str]:
    """What the metadata of each installed package says, by canonical name."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {canonicalize_name(one["Name"]): one["License"] for one in found}


def read_page_libraries() -> list[PageLibrary]:
    """The table of phi3_ui/ui/vendor/README.md."""
    rows = re.findall(
        r"^\| `([^`]+)` \| (\S+) ([\d.]+), .* \| (.+) \|$", (_VENDOR / "README.md").read_text(encoding="utf-8"), re.M
    )
    return [PageLibrary(*row) for row in rows]


def read_presets() -> list[Preset]:
    """All presets, whose weights the app downloads."""
    return [load_preset(key) for key in preset_keys()]
