"""Write the app's CycloneDX bill of materials to sbom.cdx.json. Run as `python -m tests.support.sbom` (make sbom)."""

import re
from collections.abc import Iterable

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from models.presets import HubFolder, Preset
from phi3_ui import __version__
from tests.support.inventory import Package, PageLibrary, read_packages, read_page_libraries, read_presets
from tests.support.lock import ENVIRONMENTS, LOCK, REQUIREMENTS, ROOT, read_dependencies, read_requirements

SBOM = ROOT / "sbom.cdx.json"


def create_sbom() -> str:
    """Return the bill of materials as JSON: the app's packages with their hashes, the page's libraries, and the weights."""
    app = Component(name="phi3-chat-on-mlflow", version=__version__, type=ComponentType.APPLICATION)
    app.licenses.update(_licences("Apache-2.0"))
    hashes = _read_hashes()
    packages = {one.name: _describe_package(one, hashes.get(one.name, [])) for one in read_packages() if not one.is_dev}
    other_components = [*map(_describe_library, read_page_libraries()), *map(_describe_weights, read_presets())]
    bom = Bom(components=[*packages.values(), *other_components])
    bom.metadata.component = app
    bom.register_dependency(app, [*_select(packages, read_requirements(REQUIREMENTS)), *other_components])
    for name, component in packages.items():
        bom.register_dependency(component, _select(packages, read_dependencies(name)))
    return str(JsonV1Dot6(bom).output_as_string(indent=2)) + "\n"


def _select(packages: dict[str, Component], requirements: Iterable[Requirement]) -> list[Component]:
    """Return the packages that are required in at least one environment, without extras."""
    names = {canonicalize_name(one.name) for one in requirements if _is_needed(one)}
    return [packages[name] for name in sorted(names & packages.keys())]


def _is_needed(requirement: Requirement) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**environment, "extra": ""}) for environment in ENVIRONMENTS)


def _describe_package(package: Package, hashes: list[str]) -> Component:
    purl = PackageURL("pypi", None, package.name, package.version)
    component = Component(name=package.name, version=package.version, bom_ref=str(purl), purl=purl)
    component.licenses.update(_licences(package.licence))
    if hashes:  # of all of its distributions, hence not the hash of the component itself
        files = [HashType(alg=HashAlgorithm.SHA_256, content=one) for one in hashes]
        reference = ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(str(purl)), hashes=files)
        component.external_references.add(reference)
    return component


def _describe_library(library: PageLibrary) -> Component:
    namespace, _, name = library.name.rpartition("/")
    purl = PackageURL("npm", namespace, name, library.version)
    component = Component(name=library.name, version=library.version, bom_ref=str(purl), purl=purl)
    component.licenses.update(_licences(library.licence))
    return component


def _describe_weights(preset: Preset) -> Component:
    origin, wheel = preset.origin, preset.wheel
    component = Component(
        name=origin.source, bom_ref=f"weights:{origin.preset}", type=ComponentType.MACHINE_LEARNING_MODEL
    )
    component.licenses.update(_licences(origin.license))
    if wheel:
        component.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=wheel.member_sha256))
    folders = [folder for folder in (preset.pipeline, *preset.onnx.values()) if folder]
    component.external_references.update(map(_describe_folder, folders))
    return component


def _describe_folder(folder: HubFolder) -> ExternalReference:
    url = f"https://huggingface.co/{folder.repo}/tree/{folder.revision}/{folder.folder}".rstrip("/")
    return ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=XsUri(url))


def _licences(text: str) -> list[License]:
    return [LicenseFactory().make_from_string(text)]


def _read_hashes() -> dict[str, list[str]]:
    """Return the SHA-256 hashes of each locked package's files, by package name."""
    blocks = re.split(r"(?<!\\)\n", LOCK.read_text(encoding="utf-8"))
    return {block.partition("==")[0]: re.findall(r"--hash=sha256:(\w+)", block) for block in blocks}


if __name__ == "__main__":
    SBOM.write_text(create_sbom(), encoding="utf-8")
