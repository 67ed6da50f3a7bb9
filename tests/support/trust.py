"""Admission in tests: the real one, with models approved by their fingerprints as an administrator approves them."""

from collections.abc import Iterable
from pathlib import Path

from phi3_ui.settings import Settings
from phi3_ui.store.registry.admission import Admission, open_admission
from phi3_ui.store.registry.approvals import Approvals
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.trust import inspect_model


def approve_models(tracking_uri: str, home: Path, names: Iterable[str] | None = None) -> Admission:
    """The admission of an app in `home` which the models of a store are approved for: all of them, or those called so.

    Models that are logged later are not approved.
    """
    settings = Settings.read({"PHI3_UI_HOME": str(home)})
    wanted = None if names is None else set(names)
    approvals = Approvals(settings.approvals)
    for entry in Catalogue(tracking_uri).list_models():
        if entry.folder and (wanted is None or entry.name in wanted):
            inspection = inspect_model(Path(entry.folder))
            if inspection.level == "code":
                approvals.add(inspection.fingerprint)
    return open_admission(settings)


def strict_admission(home: Path) -> Admission:
    """The admission of an app in `home` without approvals: it admits data alone and the released wrapper."""
    return Admission(home / "loaded", Approvals(home / "trusted_models.json"))
