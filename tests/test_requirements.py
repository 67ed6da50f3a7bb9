"""requirements*.txt, constraints.txt, the lock files and the code's imports are consistent."""

import ast
import importlib.metadata
import re
import sys

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from phi3_ui.paths import ROOT
from tests.support.lock import (
    DEV_LOCK,
    LOCK,
    RAY_LOCK,
    REQUIREMENTS,
    UNLOCKED,
    find_mismatches,
    read_pins,
    read_requirements,
)

SPACE_EXTRAS = ("oauth", "mcp")


def test_requirements_constraints_and_locks_agree() -> None:
    assert list(find_mismatches()) == [], "run `make lock` to update the lock files"


def test_installed_versions_are_the_pinned_ones() -> None:
    pins = {name: pin for name, pin in read_pins().items() if not pin.marker or pin.marker.evaluate()}
    installed = {name: importlib.metadata.version(name).partition("+")[0] for name in pins}

    assert {name: f"{pin.name}=={installed[name]}" for name, pin in pins.items()} == {
        name: f"{pin.name}{pin.specifier}" for name, pin in pins.items()
    }


def test_every_locked_line_has_hashes_and_names_no_package_index() -> None:
    for file in (LOCK, RAY_LOCK, DEV_LOCK):
        blocks = re.split(r"(?<!\\)\n", file.read_text(encoding="utf-8").strip())
        for block in blocks[1:]:
            assert re.fullmatch(r"[\w.-]+==[\w.]+(; [^\\]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+", block), block


def test_the_requirements_of_a_space_are_one_file_with_a_range_for_torch() -> None:
    text = REQUIREMENTS.read_text(encoding="utf-8")
    assert not re.search(r"^\s*-", text, re.MULTILINE)
    torch = next(one for one in read_requirements(REQUIREMENTS) if one.name in UNLOCKED)
    for version in ("2.8.0", "2.9.1", "2.11.0", next(iter(read_pins()["torch"].specifier)).version):
        assert torch.specifier.contains(version), version


def test_the_pins_are_compatible_with_the_builder_of_a_space() -> None:
    """The builder installs Gradio's extras `oauth` and `mcp` together with requirements.txt, and fails if they conflict."""
    pins = read_pins()
    requirements = [Requirement(line) for line in importlib.metadata.requires("gradio") or []]
    extras = [
        one for one in requirements if one.marker and any(one.marker.evaluate({"extra": name}) for name in SPACE_EXTRAS)
    ]
    assert {"pydantic", "authlib"} <= {canonicalize_name(one.name) for one in extras}
    for one in extras:
        if pin := pins.get(canonicalize_name(one.name)):
            assert one.specifier.contains(next(iter(pin.specifier)).version), one


def test_every_imported_package_is_required() -> None:
    providers = importlib.metadata.packages_distributions()
    required = {canonicalize_name(one.name) for one in read_requirements(REQUIREMENTS)}
    # The builder of a Space installs `spaces`.
    excluded = {"models", "phi3_ui", "app", "spaces", *sys.stdlib_module_names}
    missing = {}
    for file in [ROOT / "app.py", *ROOT.glob("models/*.py"), *ROOT.glob("phi3_ui/**/*.py")]:
        for module in _find_imported(ast.parse(file.read_text(encoding="utf-8"))) - excluded:
            # Several packages may provide a module, for example mlflow and mlflow-skinny.
            if not required & {canonicalize_name(name) for name in providers.get(module, [])}:
                missing[module] = str(file.relative_to(ROOT))

    assert missing == {}


def _find_imported(tree: ast.AST) -> set[str]:
    """Return the top-level names of all absolute imports."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}
