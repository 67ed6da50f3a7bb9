"""Third-party parts of the project, with their licences: locked packages, JavaScript libraries, and weights."""

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

# Licences that metadata lacks (taken from the licence file), and those of other platforms' packages (from metadata).
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
    """As declared in its metadata."""
    is_dev: bool
    """Whether it is needed for development only."""


@dataclass(frozen=True)
class PageLibrary:
    """An npm package that the app serves to the page."""

    file: str
    """Its file or folder in phi3_ui/ui/vendor."""
    name: str
    version: str
    licence: str


def read_packages() -> list[Package]:
    """Return all pinned packages, sorted by name."""
    declared = _read_declared_licences()
    _, _, dev = locked_names()
    packages = []
    for name, pin in sorted(read_pins().items()):
        licence = _LICENCES.get(name) or declared.get(name, "UNKNOWN")
        if licence == "UNKNOWN":
            raise SystemExit(f"The metadata of {name} declares no licence: add it to tests/support/inventory.py.")
        packages.append(Package(name, next(iter(pin.specifier)).version, licence, name in dev))
    return packages


@cache
def _read_declared_licences() -> dict[str, str]:
    """Return the licence in the metadata of each installed package, by canonical name."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--format=json", "--with-system"]
    packages = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {canonicalize_name(package["Name"]): package["License"] for package in packages}


def read_page_libraries() -> list[PageLibrary]:
    """Return the libraries listed in phi3_ui/ui/vendor/README.md."""
    rows = re.findall(
        r"^\| `([^`]+)` \| (\S+) ([\d.]+), .* \| (.+) \|$", (_VENDOR / "README.md").read_text(encoding="utf-8"), re.M
    )
    return [PageLibrary(*row) for row in rows]


def read_presets() -> list[Preset]:
    """Return all presets; the app downloads their weights."""
    return [load_preset(key) for key in preset_keys()]
