"""Write docs/licences.md from the locks and the installed packages: `python -m tests.support.licences` (make licences)."""

from collections.abc import Iterable

from tests.support.inventory import read_packages, read_page_libraries, read_presets
from tests.support.lock import ROOT

LICENCES = ROOT / "docs" / "licences.md"


def render_licences() -> str:
    """Return the page as Markdown."""
    packages = read_packages()
    return f"""# Licences

Written by `make licences` from the locks and the packages' own metadata. The project itself is under [Apache 2.0](../LICENSE).

## Packages of the app

{_table(("package", "version", "licence"), ((one.name, one.version, one.licence) for one in packages if not one.is_dev))}

A build of torch for NVIDIA's GPUs brings CUDA along, under NVIDIA's own terms.

## Packages of Ray Serve and of development

{_table(("package", "version", "licence"), ((one.name, one.version, one.licence) for one in packages if one.is_dev))}

## Libraries of the page

These come with the project, in `phi3_ui/ui/vendor`, where the text of each licence is.

{_table(("library", "version", "licence"), ((one.name, one.version, one.licence) for one in read_page_libraries()))}

## Weights

None come with the project. The first start downloads those of the preset that is set, `demo` by default.

{_table(("preset", "weights", "licence"), ((one.origin.preset, one.origin.source, one.origin.license) for one in read_presets()))}
"""


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows))


if __name__ == "__main__":
    LICENCES.write_text(render_licences(), encoding="utf-8")
