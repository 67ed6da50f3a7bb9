"""Real admission for tests, with models approved by fingerprint as an administrator does."""

from collections.abc import Iterable
from pathlib import Path

from phi3_ui.settings import Settings
from phi3_ui.store.registry.admission import Admission, open_admission
from phi3_ui.store.registry.approvals import Approvals
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.trust import inspect_model


def approve_models(tracking_uri: str, home: Path, names: Iterable[str] | None = None) -> Admission:
    """Approve a store's current models (all, or those in `names`) for an app in `home`, and return its admission.

    Models logged later are not approved.
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
    """Return the admission of an app in `home` without approvals: it admits only data and the released wrapper."""
    return Admission(home / "loaded", Approvals(home / "trusted_models.json"))
