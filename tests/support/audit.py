"""Query OSV for known vulnerabilities of all pinned packages: `python -m tests.support.audit` (make audit).

Exit code 0: audit.toml explains all findings; 1: it does not; 2: the service did not answer for every package.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.lock import ROOT, read_pins

EXCEPTIONS = ROOT / "audit.toml"


class AuditError(Exception):
    """The audit failed; the message is one sentence."""


@dataclass(frozen=True)
class KnownVulnerability:
    """A known vulnerability that does not affect the app."""

    package: str
    id: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """A vulnerability in a pinned package."""

    package: str
    version: str
    ids: frozenset[str]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        """Return one sentence."""
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed yet"
        return f"{self.package} {self.version}: {', '.join(sorted(self.ids))}, {fixed}."


def read_exceptions() -> list[KnownVulnerability]:
    """Return the exceptions in audit.toml."""
    return [
        KnownVulnerability(**entry)
        for entry in tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8")).get("exception", [])
    ]


def find_vulnerabilities(pins: Sequence[str], url: str | None = None) -> list[Finding]:
    """Query the service at `url` (default: OSV) for each `name==version`. Raise AuditError if one is not answered."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--desc", "off", "--progress-spinner", "off"]
    command += ["--no-deps", "--disable-pip", "--vulnerability-service", "osv", *(("--osv-url", url) if url else ())]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text("\n".join(pins), encoding="utf-8")
        result = subprocess.run([*command, "--requirement", str(file)], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(result.stdout)["dependencies"]
    except ValueError:
        lines = result.stderr.strip().splitlines() or ["pip-audit gave no reason"]
        remedy = "Check the network, or set OSV_URL to a service that can be reached"
        raise AuditError(f"The advisory service did not answer. {remedy}. ({lines[-1].strip()})") from None
    audited = [package for package in packages if "skip_reason" not in package]
    if missing := len(pins) - len(audited):
        reasons = [package["skip_reason"] for package in packages if "skip_reason" in package]
        raise AuditError(f"{missing} of {len(pins)} packages were not audited. {' '.join(reasons[:1])}".strip())
    return [_read_finding(package, vulnerability) for package in audited for vulnerability in package["vulns"]]


def _read_finding(package: dict[str, Any], vulnerability: dict[str, Any]) -> Finding:
    ids = frozenset({vulnerability["id"], *vulnerability["aliases"]})
    return Finding(package["name"], package["version"], ids, tuple(vulnerability["fix_versions"]))


def find_unexplained(findings: list[Finding], exceptions: list[KnownVulnerability]) -> Iterator[str]:
    """Yield one sentence per finding without an exception, and per exception without a finding."""
    for finding in findings:
        if not any(known.package == finding.package and known.id in finding.ids for known in exceptions):
            yield str(finding)
    for known in exceptions:
        if not any(known.package == finding.package and known.id in finding.ids for finding in findings):
            yield f"{known.package}: {known.id} is not reported any more. Remove it from {EXCEPTIONS.name}."


def main() -> int:
    """Audit the pins, print the findings and return the exit code. `OSV_URL` selects another compatible service."""
    pins = [f"{name}{pin.specifier}" for name, pin in read_pins().items()]
    exceptions = read_exceptions()
    try:
        findings = find_vulnerabilities(pins, os.environ.get("OSV_URL"))
    except AuditError as error:
        print(error, file=sys.stderr)
        return 2
    for known in exceptions:
        print(f"Known: {known.package}, {known.id}. {known.reason}")
    problems = list(find_unexplained(findings, exceptions))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(pins)} packages audited, {len(findings)} findings, {len(problems)} without an explanation.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
