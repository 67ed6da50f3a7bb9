"""Re-logs a model of the app's own kinds from its files in the store, as a new version."""

import contextlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from models.presets import preset_keys
from phi3_ui.errors import UserError
from phi3_ui.provision.recipes import Recipe
from phi3_ui.settings import Settings
from phi3_ui.store.errors import is_missing, translate_store_errors
from phi3_ui.store.registry.admission import name_suspects
from phi3_ui.store.registry.artifact_files import ArtifactFiles, classify_model
from phi3_ui.store.registry.catalogue import ONNX_ARTIFACT
from phi3_ui.store.registry.fingerprint import FolderListing, list_folder
from phi3_ui.store.registry.suspects import Suspect
from phi3_ui.store.registry.transformers_files import check_checkpoint
from phi3_ui.store.registry.wrapper_files import check_onnx_folder


def recipe_from_logged_model(settings: Settings, model_id: str) -> Recipe:
    """Return a recipe that re-logs a model from a new folder with its files, as links if the store is a local folder.

    The caller runs it and then calls `remove_relog_folder`.

    Raises:
        UserError: model_gone, cannot_relog, relog_unsafe, store_unreachable.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with translate_store_errors(settings.tracking_uri), tempfile.TemporaryDirectory(dir=settings.home) as scratch:
        files = ArtifactFiles(settings.tracking_uri, model_id, Path(scratch))
        info = files.load_mlmodel()
        kind = classify_model(info) if info else None
        if info is None or kind is None:
            raise UserError("cannot_relog", model=files.name)
        # Models of earlier versions of the app have these facts only in their run.
        facts = {**_read_params(settings.tracking_uri, files.run_id), **(info.metadata or {})}
        preset = facts["preset"] if facts.get("preset") in preset_keys() else ""
        name = files.name.removesuffix(f"-{kind}")
        parts = _list_parts(info)
        if not all(files.contains(part) for part in parts):
            raise UserError("cannot_relog", model=files.name)
        work = settings.home / "models" / (preset or name)
        work.mkdir(parents=True, exist_ok=True)
        # A new folder for each call: another job may be using an existing one.
        folder = Path(tempfile.mkdtemp(prefix="relog-", dir=work))
        try:
            for part in parts:
                _link(_inspect(_get_local_path(files.repository, part, scratch), files, kind), folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    _write_origin(facts, folder)
    if kind == "pipeline":
        return Recipe(name, preset, pipeline=folder)
    precision, device = str(facts.get("precision", "unknown")), str(facts.get("device", "cpu"))
    return Recipe(name, preset, onnx=folder, precision=precision, device=device)


def remove_relog_folder(recipe: Recipe) -> None:
    """Remove the folder that `recipe_from_logged_model` created, once the job has ended."""
    folder = recipe.onnx or recipe.pipeline
    if isinstance(folder, Path):
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()  # if it is empty


def _write_origin(facts: dict[str, Any], folder: Path) -> None:
    """Write the files that the logging programs look for in the folder: the origin of the weights, and their model card."""
    origin = {"repo": "source", "revision": "revision", "folder": "subfolder", "commit": "commit"}
    (folder / "hub.json").write_text(json.dumps({key: facts.get(fact, "") for key, fact in origin.items()}))
    if not (folder / "README.md").exists():
        head = {"license": facts.get("license", ""), "tags": facts.get("card_tags", [])}
        front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items() if value)
        text = f"---\n{front}\n---\n\n# {facts.get('title') or 'Model'}\n\n{facts.get('summary', '')}\n"
        (folder / "README.md").write_text(text, encoding="utf-8")


def _list_parts(info: Model) -> list[str]:
    """Return the folders of the artifact that were logged."""
    function: dict[str, Any] = info.flavors["python_function"]
    if artifact := (function.get("artifacts") or {}).get(ONNX_ARTIFACT):
        return [artifact["path"]]
    pipeline: dict[str, Any] = info.flavors["transformers"]
    return [pipeline["model_binary"], *(f"components/{component}" for component in pipeline.get("components") or [])]


def _read_params(tracking_uri: str, run_id: str | None) -> dict[str, str]:
    """Return the params of the run that logged a model; empty if the run is gone."""
    try:
        return dict(MlflowClient(tracking_uri).get_run(run_id).data.params) if run_id else {}
    except MlflowException as error:
        if is_missing(error):
            return {}
        raise


def _get_local_path(repository: ArtifactRepository, part: str, scratch: str) -> Path:
    """Return the local path of a folder of the artifact: in the store itself, or downloaded."""
    if isinstance(repository, LocalArtifactRepository):
        return Path(repository.get_local_path(part))
    return Path(repository.download_artifacts(part, scratch))


def _inspect(part: Path, files: ArtifactFiles, kind: Literal["pipeline", "onnx"]) -> FolderListing:
    """Return the files of a part, which the engine will load.

    Raises:
        UserError: cannot_relog; relog_unsafe if they may run code, or are outside of the part.
    """
    if any(path in (".", "..") for path in part.parts) or part.is_symlink():
        raise UserError("cannot_relog", model=files.name)
    listing = list_folder(part)
    suspects = {Suspect(path, reason) for path, reason in listing.oddities}
    suspects.update(check_checkpoint(listing) if kind == "pipeline" else check_onnx_folder(listing, listing.files))
    if suspects:
        raise UserError("relog_unsafe", model=files.name, files=name_suspects(suspects))
    return listing


def _link(part: FolderListing, folder: Path) -> None:
    """Create the files of `part` in `folder`: as hard links, or as copies if the folder is on another disk."""
    for file in part.files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file.real, target)
        except OSError:
            shutil.copyfile(file.real, target)
