"""Write constraints.txt and the lock files from what is installed: `python -m tests.support.lock` (make lock).

requirements*.txt name what the project imports, constraints.txt pins these and all that they bring, and the locks add the
SHA-256 of every file of such a version, so that pip installs without resolving: `--require-hashes --no-deps -r requirements.lock`.
torch is in no lock: people choose a build of it.
"""

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
REQUIREMENTS, DEV_REQUIREMENTS = ROOT / "requirements.txt", ROOT / "requirements-dev.txt"
RAY_REQUIREMENTS = ROOT / "deploy" / "ray" / "requirements.txt"
LOCK, RAY_LOCK, DEV_LOCK = (file.with_suffix(".lock") for file in (REQUIREMENTS, RAY_REQUIREMENTS, DEV_REQUIREMENTS))

UNLOCKED = {"torch"}
"""Installed on a line of its own, so that a build of it can be chosen."""

_CUDA = re.compile(r"nvidia-.*|cuda-.*|triton")  # what a build of torch brings besides

ENVIRONMENTS = [
    {"python_version": version, "python_full_version": f"{version}.0", **platform}
    for version in ("3.11", "3.12")
    for platform in (
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
        {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "aarch64"},
        {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
        {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    )
]
"""Where the locks install: the markers' values for each Python and platform."""

_PYTHONS = re.compile(r"py3|py2\.py3|py31[12]|cp31[12]")
_PLATFORMS = re.compile(r"any|manylinux.*_(x86_64|aarch64)|linux_(x86_64|aarch64)|macosx_.*|win_amd64")


def read_requirements(file: Path) -> list[Requirement]:
    """The requirements that a file lists itself; not those of files that it refers to."""
    lines = (line.partition(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def read_pins() -> dict[str, Requirement]:
    """The pins of constraints.txt, by canonical name."""
    return {canonicalize_name(pin.name): pin for pin in read_requirements(CONSTRAINTS)}


def required_names(roots: Iterable[Requirement], environment: dict[str, str]) -> set[str]:
    """Canonical names of `roots` and of all that they require where `environment` holds, read from what is installed.

    What a package that is not installed here requires is not known.
    """
    found: set[tuple[str, str]] = set()
    waiting = [(requirement, "") for requirement in roots]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in found:
                found.add((name, wanted))
                waiting += [(child, wanted) for child in requirements_of(name)]
    return {name for name, _ in found}


@cache
def requirements_of(name: str) -> list[Requirement]:
    """What an installed package requires, in any environment; nothing is known of one that is not installed."""
    try:
        children = [Requirement(line) for line in importlib.metadata.requires(name) or []]
    except importlib.metadata.PackageNotFoundError:
        return []
    return [child for child in children if not _CUDA.fullmatch(canonicalize_name(child.name))]


@cache
def locked_names() -> tuple[set[str], set[str], set[str]]:
    """What the app needs anywhere, what Ray Serve needs besides, and what development needs besides the app; without `UNLOCKED`."""
    app, ray, dev = map(read_requirements, (REQUIREMENTS, RAY_REQUIREMENTS, DEV_REQUIREMENTS))
    needed, serving, developing = (
        set[str]().union(*(required_names(roots, environment) for environment in ENVIRONMENTS)) - UNLOCKED
        for roots in (app, [*app, *ray], [*app, *ray, *dev])
    )
    return needed, serving - needed, developing - needed


def write_constraints() -> None:
    """Pin what is installed of all that is needed; pins with a marker keep it, and those of other platforms stay as they are."""
    markers = {name: pin.marker for name, pin in read_pins().items() if pin.marker}
    kept = {name: str(pin) for name, pin in read_pins().items() if pin.marker}
    app, _, dev = locked_names()
    for name in app | dev | UNLOCKED:
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name not in kept:
                raise SystemExit(
                    f"{name} is needed on another platform: pin it in {CONSTRAINTS.name} with a marker."
                ) from None
            continue
        marker = f"; {markers[name]}" if name in markers else ""
        kept[name] = f"{found.name}=={found.version.partition('+')[0]}{marker}"
    CONSTRAINTS.write_text("\n".join(sorted(kept.values(), key=str.casefold)) + "\n", encoding="utf-8")


def write_locks() -> None:
    """Write the locks, with the hashes that the package index gives."""
    from piptools.repositories import PyPIRepository

    repository = PyPIRepository([], cache_dir=str(ROOT / ".test-data" / "pip-tools"))
    pins = read_pins()
    for file, names in zip((LOCK, RAY_LOCK, DEV_LOCK), locked_names(), strict=True):
        lines = ["# Written by `make lock`. Install with: pip install --require-hashes --no-deps -r " + file.name]
        for name in sorted(names):
            hashes = sorted(_hashes(repository, pins[name]))
            lines.append(" \\\n".join([str(pins[name]), *(f"    --hash=sha256:{hash_}" for hash_ in hashes)]))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _hashes(repository: Any, pin: Requirement) -> set[str]:
    """SHA-256 of the pinned version's source archive and of its wheels for the supported platforms."""
    with repository.allow_all_wheels():
        candidates = repository.find_all_candidates(pin.name)
    links = [one.link for one in candidates if pin.specifier.contains(str(one.version), prereleases=True)]
    found = {link.hash for link in links if link.hash_name == "sha256" and _is_supported(link.filename)}
    if not found:
        raise SystemExit(f"The package index gives no hash of {pin}.")
    return found


def _is_supported(filename: str) -> bool:
    if not filename.endswith(".whl"):
        return True
    return any(
        _PLATFORMS.fullmatch(tag.platform)
        and (_PYTHONS.fullmatch(tag.interpreter) or (tag.abi == "abi3" and _is_older(tag.interpreter)))
        for tag in parse_wheel_filename(filename)[3]
    )


def _is_older(interpreter: str) -> bool:
    """Is this a CPython whose stable ABI 3.11 has? cp39, for one."""
    return interpreter.startswith("cp3") and int(interpreter[3:] or 0) <= 12


def stale_lines() -> Iterator[str]:
    """What does not fit together, one sentence each: requirements, constraints and locks."""
    pins = read_pins()
    for requirement in chain(*map(read_requirements, (REQUIREMENTS, RAY_REQUIREMENTS, DEV_REQUIREMENTS))):
        pin = pins.get(canonicalize_name(requirement.name))
        version = next(iter(pin.specifier)).version if pin else None
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            yield f"constraints.txt pins {pin}, but {requirement} is required"
    for file, names in zip((LOCK, RAY_LOCK, DEV_LOCK), locked_names(), strict=True):
        locked = {canonicalize_name(line.name): line for line in _read_lock(file)}
        yield from (f"{file.name} lacks {name}" for name in sorted(names - set(locked)))
        yield from (f"{file.name} has {name}, which nothing needs" for name in sorted(set(locked) - names))
        yield from (
            f"{file.name}: {line}, but {pins.get(name)}"
            for name, line in locked.items()
            if str(line) != str(pins.get(name))
        )


def _read_lock(file: Path) -> list[Requirement]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [Requirement(line.removesuffix(" \\")) for line in lines if line[:1] not in ("#", " ")]


if __name__ == "__main__":
    write_constraints()
    write_locks()
