"""requirements*.txt, constraints.txt, the lock files and the imports of the code agree."""

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
    read_pins,
    read_requirements,
    stale_lines,
)

SPACE_EXTRAS = ("oauth", "mcp")


def test_requirements_constraints_and_locks_agree() -> None:
    assert list(stale_lines()) == [], "`make lock` writes the locks again"


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


def test_requirements_of_a_space_refer_to_no_other_file_and_leave_torch_a_range() -> None:
    text = REQUIREMENTS.read_text(encoding="utf-8")
    assert not re.search(r"^\s*-", text, re.MULTILINE)
    torch = next(one for one in read_requirements(REQUIREMENTS) if one.name in UNLOCKED)
    for version in ("2.8.0", "2.9.1", "2.11.0", next(iter(read_pins()["torch"].specifier)).version):
        assert torch.specifier.contains(version), version


def test_the_pins_suit_the_builder_of_a_space() -> None:
    """It installs Gradio's extras `oauth` and `mcp` together with requirements.txt, and fails if they conflict."""
    pins = read_pins()
    wanted = [Requirement(line) for line in importlib.metadata.requires("gradio") or []]
    added = [one for one in wanted if one.marker and any(one.marker.evaluate({"extra": name}) for name in SPACE_EXTRAS)]
    assert {"pydantic", "authlib"} <= {canonicalize_name(one.name) for one in added}
    for one in added:
        if pin := pins.get(canonicalize_name(one.name)):
            assert one.specifier.contains(next(iter(pin.specifier)).version), one


def test_every_imported_package_is_required() -> None:
    providers = importlib.metadata.packages_distributions()
    required = {canonicalize_name(one.name) for one in read_requirements(REQUIREMENTS)}
    ours = {"models", "phi3_ui", "app", "spaces", *sys.stdlib_module_names}  # a Space's builder adds `spaces`
    missing = {}
    for file in [ROOT / "app.py", *ROOT.glob("models/*.py"), *ROOT.glob("phi3_ui/**/*.py")]:
        for module in _imported(ast.parse(file.read_text(encoding="utf-8"))) - ours:
            # One module may come from several packages: mlflow and mlflow-skinny.
            if not required & {canonicalize_name(name) for name in providers.get(module, [])}:
                missing[module] = str(file.relative_to(ROOT))

    assert missing == {}


def _imported(tree: ast.AST) -> set[str]:
    """Return the top-level names of all absolute imports."""
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names}
