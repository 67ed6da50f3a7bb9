"""The licence list, the bill of materials and the audit cover all locked packages."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.support.audit import AuditError, KnownVulnerability, find_unexplained, find_vulnerabilities, read_exceptions
from tests.support.inventory import read_page_libraries
from tests.support.licences import LICENCES, render_licences
from tests.support.lock import ROOT, read_pins
from tests.support.sbom import create_sbom

# An advisory in the format of OSV, shortened.
_ADVISORY = {
    "id": "GHSA-0000-0000-0001",
    "aliases": ["CVE-2026-134825"],
    "summary": "A forged Host header reaches the renderer",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "gradio"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "6.27.0"}, {"fixed": "6.32.0"}]}],
        }
    ],
    "schema_version": "1.7.0",
}


def test_the_licence_list_is_current_and_names_every_pinned_package() -> None:
    text = LICENCES.read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\S+) \| (\S+) \| .+ \|$", text, re.MULTILINE))

    assert {name: next(iter(pin.specifier)).version for name, pin in read_pins().items()}.items() <= rows.items()
    assert text == render_licences(), "run `make licences` to update it"


def test_every_library_of_the_page_is_shipped_with_its_licence() -> None:
    vendor = ROOT / "phi3_ui" / "ui" / "vendor"
    libraries = {one.file: one for one in read_page_libraries()}

    found = {f"{one.name}/" if one.is_dir() else one.name for one in vendor.iterdir()} - {"README.md"}
    assert libraries.keys() == {name for name in found if not name.endswith(".LICENSE")}
    for file in libraries:
        licence = vendor / file / "LICENSE" if file.endswith("/") else vendor / f"{file.removesuffix('.js')}.LICENSE"
        assert "Copyright" in licence.read_text(encoding="utf-8")


def test_the_bill_of_materials_is_valid_and_complete() -> None:
    text = create_sbom()
    components = {one["bom-ref"]: one for one in json.loads(text)["components"]}

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    gradio = components[f"pkg:pypi/gradio@{next(iter(read_pins()['gradio'].specifier)).version}"]
    locked = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert gradio["externalReferences"][0]["hashes"]
    assert all(one["content"] in locked for one in gradio["externalReferences"][0]["hashes"])
    assert components["weights:demo"]["hashes"]
    assert "pkg:npm/katex@0.19.1" in components
    assert not any(name.startswith("pkg:pypi/pytest") for name in components)


@contextmanager
def _serve_osv(advisories: dict[str, Any], status: int = 200) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run a fake OSV server, and yield its URL and the queries it receives. `advisories` are keyed by package."""
    queries: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            queries.append(query)
            found = advisories.get(query["package"]["name"])
            answer = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/query", queries
        finally:
            server.shutdown()
            thread.join()


def test_an_unexplained_finding_is_reported() -> None:
    with _serve_osv({"gradio": [_ADVISORY]}) as (url, queries):
        findings = find_vulnerabilities(["gradio==6.31.0", "colorama==0.4.6"], url)

    assert {(one["package"]["name"], one["version"]) for one in queries} == {
        ("gradio", "6.31.0"),
        ("colorama", "0.4.6"),
    }
    assert list(find_unexplained(findings, [])) == [
        "gradio 6.31.0: CVE-2026-134825, GHSA-0000-0000-0001, fixed in 6.32.0."
    ]
    assert list(find_unexplained(findings, read_exceptions())) == []
    assert list(
        find_unexplained(findings, [*read_exceptions(), KnownVulnerability("pip", "CVE-1", "It is not used.")])
    ) == ["pip: CVE-1 is not reported any more. Remove it from audit.toml."]


def test_an_incomplete_audit_fails() -> None:
    with _serve_osv({}, status=503) as (url, _), pytest.raises(AuditError, match=r"did not answer\. Check the network"):
        find_vulnerabilities(["gradio==6.31.0"], url)
    with _serve_osv({}) as (url, _), pytest.raises(AuditError, match="1 of 1 packages were not audited"):
        find_vulnerabilities(["gradio==6.31.0; python_version > '4'"], url)


def test_every_exception_concerns_a_pinned_package_and_has_a_reason() -> None:
    pins = read_pins()
    assert all(one.package in pins and one.reason.endswith(".") for one in read_exceptions())
