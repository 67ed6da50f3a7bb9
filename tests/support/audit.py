"""Ask OSV for known vulnerabilities of all pinned packages: `python -m tests.support.audit` (make audit).

Exit code 0: audit.toml explains all that is known; 1: it does not; 2: the service did not answer for every package.
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
    """The packages were not audited, in one sentence."""


@dataclass(frozen=True)
class Known:
    """A vulnerability that does not concern the app."""

    package: str
    id: str
    reason: str


@dataclass(frozen=True)
class Finding:
    """A vulnerability of a pinned package."""

    package: str
    version: str
    ids: frozenset[str]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        """One sentence."""
        fixed = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed yet"
        return f"{self.package} {self.version}: {', '.join(sorted(self.ids))}, {fixed}."


def read_exceptions() -> list[Known]:
    """What audit.toml lists."""
    return [Known(**one) for one in tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8")).get("exception", [])]


def find_vulnerabilities(pins: Sequence[str], url: str | None = None) -> list[Finding]:
    """Ask the service at `url`, by default OSV's own, for each `name==version`. AuditError if one was not answered."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--desc", "off", "--progress-spinner", "off"]
    command += ["--no-deps", "--disable-pip", "--vulnerability-service", "osv", *(("--osv-url", url) if url else ())]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "requirements.txt")
        file.write_text("\n".join(pins), encoding="utf-8")
        done = subprocess.run([*command, "--requirement", str(file)], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["pip-audit gave no reason"]
        cure = "Check the network, or name a service that can be reached in OSV_URL"
        raise AuditError(f"The advisory service did not answer. {cure}. ({lines[-1].strip()})") from None
    audited = [one for one in packages if "skip_reason" not in one]
    if missing := len(pins) - len(audited):
        reasons = [one["skip_reason"] for one in packages if "skip_reason" in one]
        raise AuditError(f"{missing} of {len(pins)} packages were not audited. {' '.join(reasons[:1])}".strip())
    return [_read_finding(package, one) for package in audited for one in package["vulns"]]


def _read_finding(package: dict[str, Any], vulnerability: dict[str, Any]) -> Finding:
    ids = frozenset({vulnerability["id"], *vulnerability["aliases"]})
    return Finding(package["name"], package["version"], ids, tuple(vulnerability["fix_versions"]))


def unexplained(findings: list[Finding], exceptions: list[Known]) -> Iterator[str]:
    """One sentence for each finding without an exception, and for each exception without a finding."""
    for finding in findings:
        if not any(one.package == finding.package and one.id in finding.ids for one in exceptions):
            yield str(finding)
    for one in exceptions:
        if not any(one.package == finding.package and one.id in finding.ids for finding in findings):
            yield f"{one.package}: {one.id} is not reported any more. Remove it from {EXCEPTIONS.name}."


def main() -> int:
    """Audit, and print what was found. `OSV_URL` names another service of the same protocol. Returns the exit code."""
    pins = [f"{name}{pin.specifier}" for name, pin in read_pins().items()]
    exceptions = read_exceptions()
    try:
        findings = find_vulnerabilities(pins, os.environ.get("OSV_URL"))
    except AuditError as error:
        print(error, file=sys.stderr)
        return 2
    for one in exceptions:
        print(f"Known: {one.package}, {one.id}. {one.reason}")
    problems = list(unexplained(findings, exceptions))
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(pins)} packages audited, {len(findings)} findings, {len(problems)} without an explanation.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
