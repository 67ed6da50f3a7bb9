"""Write constraints.txt and the lock files from the installed packages: `python -m tests.support.lock` (make lock).

requirements*.txt name the direct dependencies, constraints.txt pins them and all transitive ones, and the locks add the
SHA-256 of every file of each pinned version, so that pip need not resolve: `--require-hashes --no-deps -r requirements.lock`.
torch is not locked: users choose its build.
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
"""Installed by a separate command, so that users can choose a build."""

_CUDA = re.compile(r"nvidia-.*|cuda-.*|triton")  # dependencies of torch's CUDA builds

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
"""Environments that the locks support: the marker values for each Python version and platform."""

_PYTHONS = re.compile(r"py3|py2\.py3|py31[12]|cp31[12]")
_PLATFORMS = re.compile(r"any|manylinux.*_(x86_64|aarch64)|linux_(x86_64|aarch64)|macosx_.*|win_amd64")


def read_requirements(file: Path) -> list[Requirement]:
    """Return the requirements in a file, without those of files that it includes."""
    lines = (line.partition(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def read_pins() -> dict[str, Requirement]:
    """Return the pins of constraints.txt by canonical name."""
    return {canonicalize_name(pin.name): pin for pin in read_requirements(CONSTRAINTS)}


def required_names(roots: Iterable[Requirement], environment: dict[str, str]) -> set[str]:
    """Return the canonical names of `roots` and their transitive dependencies in `environment`.

    The dependencies are read from the installed packages; those of a package that is not installed are unknown.
    """
    seen: set[tuple[str, str]] = set()
    pending = [(requirement, "") for requirement in roots]
    while pending:
        requirement, extra = pending.pop()
        if requirement.marker and not requirement.marker.evaluate({**environment, "extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for requested_extra in ("", *requirement.extras):
            if (name, requested_extra) not in seen:
                seen.add((name, requested_extra))
                pending += [(child, requested_extra) for child in read_dependencies(name)]
    return {name for name, _ in seen}


@cache
def read_dependencies(name: str) -> list[Requirement]:
    """Return the requirements of a package in any environment, or none if it is not installed."""
    try:
        children = [Requirement(line) for line in importlib.metadata.requires(name) or []]
    except importlib.metadata.PackageNotFoundError:
        return []
    return [child for child in children if not _CUDA.fullmatch(canonicalize_name(child.name))]


@cache
def locked_names() -> tuple[set[str], set[str], set[str]]:
    """Return the names that the app needs on any platform, and those that Ray Serve and development add; without `UNLOCKED`."""
    app, ray, dev = map(read_requirements, (REQUIREMENTS, RAY_REQUIREMENTS, DEV_REQUIREMENTS))
    app_names, ray_names, dev_names = (
        set[str]().union(*(required_names(roots, environment) for environment in ENVIRONMENTS)) - UNLOCKED
        for roots in (app, [*app, *ray], [*app, *ray, *dev])
    )
    return app_names, ray_names - app_names, dev_names - app_names


def write_constraints() -> None:
    """Pin the installed version of every required package. Keep markers, and the pins of other platforms."""
    markers = {name: pin.marker for name, pin in read_pins().items() if pin.marker}
    lines = {name: str(pin) for name, pin in read_pins().items() if pin.marker}
    app, _, dev = locked_names()
    for name in app | dev | UNLOCKED:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name not in lines:
                raise SystemExit(
                    f"{name} is needed on another platform: pin it in {CONSTRAINTS.name} with a marker."
                ) from None
            continue
        marker = f"; {markers[name]}" if name in markers else ""
        lines[name] = f"{distribution.name}=={distribution.version.partition('+')[0]}{marker}"
    CONSTRAINTS.write_text("\n".join(sorted(lines.values(), key=str.casefold)) + "\n", encoding="utf-8")


def write_locks() -> None:
    """Write the locks, with hashes from the package index."""
    from piptools.repositories import PyPIRepository

    repository = PyPIRepository([], cache_dir=str(ROOT / ".test-data" / "pip-tools"))
    pins = read_pins()
    for file, names in zip((LOCK, RAY_LOCK, DEV_LOCK), locked_names(), strict=True):
        lines = ["# Written by `make lock`. Install with: pip install --require-hashes --no-deps -r " + file.name]
        for name in sorted(names):
            hashes = sorted(_find_hashes(repository, pins[name]))
            lines.append(" \\\n".join([str(pins[name]), *(f"    --hash=sha256:{hash_}" for hash_ in hashes)]))
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _find_hashes(repository: Any, pin: Requirement) -> set[str]:
    """Return the SHA-256 of the pinned version's sdist and of its wheels for the supported platforms."""
    with repository.allow_all_wheels():
        candidates = repository.find_all_candidates(pin.name)
    links = [
        candidate.link for candidate in candidates if pin.specifier.contains(str(candidate.version), prereleases=True)
    ]
    hashes = {link.hash for link in links if link.hash_name == "sha256" and _is_supported(link.filename)}
    if not hashes:
        raise SystemExit(f"The package index has no hash for {pin}.")
    return hashes


def _is_supported(filename: str) -> bool:
    if not filename.endswith(".whl"):
        return True
    return any(
        _PLATFORMS.fullmatch(tag.platform)
        and (_PYTHONS.fullmatch(tag.interpreter) or (tag.abi == "abi3" and _has_supported_abi3(tag.interpreter)))
        for tag in parse_wheel_filename(filename)[3]
    )


def _has_supported_abi3(interpreter: str) -> bool:
    """Return whether a supported CPython (up to 3.12) has the stable ABI of this tag, for example cp39."""
    return interpreter.startswith("cp3") and int(interpreter[3:] or 0) <= 12


def find_mismatches() -> Iterator[str]:
    """Yield one sentence per mismatch between requirements, constraints and locks."""
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
            f"{file.name} has {line}, but constraints.txt has {pins.get(name)}"
            for name, line in locked.items()
            if str(line) != str(pins.get(name))
        )


def _read_lock(file: Path) -> list[Requirement]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [Requirement(line.removesuffix(" \\")) for line in lines if line[:1] not in ("#", " ")]


if __name__ == "__main__":
    write_constraints()
    write_locks()
