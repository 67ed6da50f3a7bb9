"""Admits models to their processes: their files are copied, inspected and, if they contain code, checked against the approvals.

The process loads the copy that was inspected, so that nothing can change in between. Weights are not copied but linked: no
library executes them, and they are the bulk of a model.
"""

import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from phi3_ui.errors import UserError
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.settings import Settings
from phi3_ui.store.errors import translate_store_errors
from phi3_ui.store.registry.approvals import Approvals
from phi3_ui.store.registry.cards import ModelEntry
from phi3_ui.store.registry.fingerprint import FolderListing, list_folder
from phi3_ui.store.registry.mlmodel_yaml import is_unambiguous
from phi3_ui.store.registry.model_copies import ModelCopies, copy_files
from phi3_ui.store.registry.remote_files import RemoteFiles, is_caused_by
from phi3_ui.store.registry.store_models import StoreModels
from phi3_ui.store.registry.suspects import Suspect
from phi3_ui.store.registry.trust import Inspection, inspect_listing

_MAX_NAMED = 5
_MAX_NAME = 80  # characters


@dataclass(frozen=True)
class Review:
    """The current trust in a model."""

    inspection: Inspection
    is_approved: bool
    """Whether the administrator approved its code."""

    @property
    def is_loadable(self) -> bool:
        """Whether it may be loaded."""
        return self.inspection.level != "code" or self.is_approved


class Admission:
    """Decides which models may be loaded. Thread-safe."""

    def __init__(self, folder: Path, approvals: Approvals) -> None:
        """`folder` holds the copies while their models are loaded."""
        self.approvals = approvals
        self._copies = ModelCopies(folder)
        self._lock = threading.Lock()  # guards the attributes below
        self._reviewed: dict[Path, tuple[FolderListing, Inspection]] = {}
        self._admitted: dict[str, Inspection] = {}

    def review(self, entry: ModelEntry, identify: bool = True) -> Review | None:
        """Inspect a model in place; None if its files are not on this machine and have not been inspected before.

        Without `identify`, a model with code counts as approved only if that is known without reading all its files.
        Raises OSError if they cannot be read.
        """
        if entry.folder is None:
            with self._lock:
                inspection = self._admitted.get(entry.model_id)
        else:
            inspection = self._inspect(Path(entry.folder), identify or bool(self.approvals.list()))
        if inspection is None:
            return None
        return Review(inspection, self.approvals.contains(inspection.fingerprint))

    def is_loadable(self, entry: ModelEntry) -> bool:
        """Return whether a model may be loaded, as far as that is known without downloading its files."""
        try:
            review = self.review(entry, identify=False)
        except OSError:
            return False
        # If nothing else is known, do not preselect a model that declares code.
        return review.is_loadable if review else not entry.declares_code

    def inspect(self, entry: ModelEntry) -> Inspection:
        """Inspect a model and compute its fingerprint, downloading it if it is not on this machine.

        Raises:
            UserError: model_unreadable, model_gone, and those of translate_store_errors.
        """
        try:
            if entry.folder is not None:
                return self._inspect(Path(entry.folder), identify=True)
            with self._copies.create() as folder:
                with translate_store_errors(entry.tracking_uri):
                    _open_remote(entry.model_id, entry.name, entry.tracking_uri).download(folder)
                return self._remember(entry.model_id, inspect_listing(list_folder(folder, is_copy=True)))
        except OSError as error:
            raise _create_unreadable_error(entry.name, error) from error

    def require(self, entry: ModelEntry) -> None:
        """Raise UserError("model_not_trusted") if a model is known not to be loadable, "model_unreadable" if it cannot be read."""
        try:
            review = self.review(entry, identify=False)
        except OSError as error:
            raise _create_unreadable_error(entry.name, error) from error
        if review:
            self._require(entry.model_id, entry.name, review.inspection)
        elif entry.declares_code and not self.approvals.list():  # otherwise it would be downloaded only to be refused
            raise UserError("model_not_trusted", model=entry.name, id=entry.model_id, files="MLmodel: loader_module")

    @contextmanager
    def admit(self, spec: ModelSpec) -> Iterator[ModelSpec]:
        """Copy and inspect a model, and yield the spec with the copy, which exists during the block.

        Raises:
            UserError: model_not_trusted, model_unreadable, model_gone, and those of translate_store_errors.
        """
        with self._copies.create() as folder:
            try:
                own_links = self._fetch(spec, folder)
                inspection = inspect_listing(list_folder(folder, own_links, is_copy=True))
                if inspection.level != "code" and not is_unambiguous((folder / "MLmodel").read_text(encoding="utf-8")):
                    raise UserError("model_unreadable", model=spec.name, detail="MLmodel is ambiguous")
            except (OSError, shutil.Error) as error:
                raise _create_unreadable_error(spec.name, error) from error
            self._require(spec.model_id, spec.name, self._remember(spec.model_id, inspection))
            yield replace(spec, folder=str(folder), level=inspection.level)

    def _inspect(self, folder: Path, identify: bool) -> Inspection:
        listing = list_folder(folder)
        with self._lock:
            known = self._reviewed.get(folder)
        if (
            known
            and known[0].state == listing.state
            and (known[1].fingerprint or not identify or not known[1].suspects)
        ):
            return known[1]
        inspection = inspect_listing(listing, identify)
        with self._lock:
            self._reviewed[folder] = listing, inspection
        return inspection

    def _remember(self, model_id: str, inspection: Inspection) -> Inspection:
        with self._lock:
            self._admitted[model_id] = inspection
        return inspection

    def _require(self, model_id: str, name: str, inspection: Inspection) -> None:
        if inspection.level == "code" and not self.approvals.contains(inspection.fingerprint):
            raise UserError("model_not_trusted", model=name, id=model_id, files=name_suspects(inspection.suspects))

    def _fetch(self, spec: ModelSpec, folder: Path) -> frozenset[str]:
        """Fill `folder` with the model's files, and return the paths of those that are links out of it."""
        if spec.folder is None:
            with translate_store_errors(spec.tracking_uri):
                remote = _open_remote(spec.model_id, spec.name, spec.tracking_uri)
                if not self.approvals.list():  # otherwise all of its files are needed to tell whether it is approved
                    self._require_preview(spec, remote)
                remote.download(folder)
            return frozenset()
        listing = list_folder(Path(spec.folder))
        # Check before copying: a refused model may be huge.
        self._require(spec.model_id, spec.name, inspect_listing(listing))
        return copy_files(listing, folder)

    def _require_preview(self, spec: ModelSpec, remote: RemoteFiles) -> None:
        """Refuse an untrusted model in a remote store before downloading its weights, which may be huge."""
        with self._copies.create() as folder:
            placeholders = remote.preview(folder)
            inspection = inspect_listing(list_folder(folder, is_copy=True), identify=False)
        suspects = tuple(one for one in inspection.suspects if not is_caused_by(one, placeholders))
        if suspects:
            self._require(spec.model_id, spec.name, replace(inspection, suspects=suspects))


def open_admission(settings: Settings) -> Admission:
    """Open the admission of an app with these settings."""
    return Admission(settings.model_copies, Approvals(settings.approvals, settings.trusted_models))


def name_suspects(suspects: Iterable[Suspect]) -> str:
    """Return the names of the first suspects, for a message."""
    paths = list(dict.fromkeys(suspect.path for suspect in suspects))
    names = [printable(path) for path in sorted(paths)[:_MAX_NAMED]]
    more = len(paths) - len(names)
    return ", ".join([*names, *([f"+{more}"] if more else [])])


def printable(path: str) -> str:
    """Return a path for a message or a list: shortened, and without unprintable characters."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in path)
    return shown if len(shown) <= _MAX_NAME else f"…{shown[-_MAX_NAME:]}"


def _open_remote(model_id: str, name: str, tracking_uri: str) -> RemoteFiles:
    model = StoreModels(tracking_uri).find(model_id)
    return RemoteFiles(get_artifact_repository(model.artifact_uri, tracking_uri), name)


def _create_unreadable_error(name: str, error: Exception) -> UserError:
    detail = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return UserError("model_unreadable", model=name, detail=detail)
