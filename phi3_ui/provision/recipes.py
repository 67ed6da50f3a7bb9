"""What to make and log, as data, and the steps that it takes. Pure, but for looking whether a folder is here."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from models.presets import HubFolder, Preset, Wheel, load_preset, preset_keys
from phi3_ui.errors import UserError

StageName = Literal["fetch", "convert", "fetch_checkpoint", "fetch_onnx", "build", "log_pipeline", "log_onnx"]

# The stages, with the share of the time that each takes next to the others.
STAGES: dict[StageName, int] = {
    "fetch": 5,
    "convert": 40,
    "fetch_checkpoint": 100,
    "fetch_onnx": 50,
    "build": 20,
    "log_pipeline": 25,
    "log_onnx": 10,
}
BYTES: tuple[StageName, ...] = ("fetch", "fetch_checkpoint", "fetch_onnx")
"""The stages whose progress is in bytes; that of the others is in steps."""

CONTRACTS = ("chat", "prompt")
DEVICES = ("cpu", "cuda", "directml")
PRECISIONS = ("int4", "int8", "fp16", "fp32")

Source = Wheel | HubFolder | Path


@dataclass(frozen=True)
class Recipe:
    """Which models to log, and from what. `pipeline` and `build` are checkpoints, `onnx` is a folder made elsewhere.

    `name` is that of the models and of the folder they are made in; `preset` is empty for weights of one's own.
    """

    name: str
    preset: str = ""
    pipeline: Source | None = None
    onnx: HubFolder | Path | None = None
    build: Source | None = None
    precision: str = "int4"
    device: str = "cpu"


@dataclass(frozen=True)
class Step:
    """One stage: a module that is run as a program."""

    stage: StageName
    module: str
    arguments: tuple[str, ...]


def find_preset(key: str) -> Preset:
    """The preset called `key`. UserError("unknown_preset")."""
    try:
        return load_preset(key)
    except KeyError:
        raise UserError("unknown_preset", preset=key, known=", ".join(preset_keys())) from None


def recipe_from_preset(
    key: str, device: str = "cpu", contracts: Iterable[str] = CONTRACTS, revision: str = ""
) -> Recipe:
    """The models of a preset, or those of them with these contracts. UserError: unknown_preset, no_such_device."""
    preset, wanted = find_preset(key), set(contracts)
    recipe = Recipe(preset.origin.name, key, precision=preset.onnx_precision, device=device)
    if "chat" in wanted:
        recipe = replace(recipe, pipeline=preset.wheel or _at(preset.pipeline, revision))
    if "prompt" in wanted and preset.wheel:
        if device != "cpu":
            raise UserError("no_such_device", device=device, name=key, known="cpu")
        recipe = replace(recipe, build=preset.wheel)
    elif "prompt" in wanted:
        if device not in preset.onnx:
            raise UserError("no_such_device", device=device, name=key, known=", ".join(preset.onnx))
        recipe = replace(recipe, onnx=_at(preset.onnx[device], revision))
    return recipe


def recipe_from_arguments(
    *,
    pipeline: str = "",
    onnx: str = "",
    build_onnx: str = "",
    precision: str = "int4",
    device: str = "cpu",
    name: str = "",
    revision: str = "",
) -> Recipe:
    """Weights of one's own: hub ids or folders; `onnx` may name a subfolder after a colon.

    UserError: nothing_to_log, invalid_source.
    """
    given = [value for value in (pipeline, build_onnx, onnx) if value]
    if not given:
        raise UserError("nothing_to_log")
    if onnx and build_onnx:
        raise UserError("two_onnx_sources")
    ready, _, subfolder = onnx.partition(":")
    return Recipe(
        name=_name(name or given[0].partition(":")[0]),
        pipeline=_source(pipeline, revision) if pipeline else None,
        onnx=_source(ready, revision, subfolder) if onnx else None,
        build=_source(build_onnx, revision) if build_onnx else None,
        precision=precision,
        device=device,
    )


def _source(text: str, revision: str, subfolder: str = "") -> HubFolder | Path:
    text = text.strip()
    folder = Path(text).expanduser()
    if folder.is_dir():
        return (folder / subfolder).resolve()
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text):
        return HubFolder(text, revision or "main", subfolder.strip("/"))
    raise UserError("invalid_source", value=text)


def _name(text: str) -> str:
    """A model's name from what it is made from: the last part of the path, without -onnx, in letters MLflow takes."""
    last = text.rstrip("/").rpartition("/")[2].lower().removesuffix("-onnx")
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "model"


def _at(folder: HubFolder | None, revision: str) -> HubFolder | None:
    return replace(folder, revision=revision) if folder and revision else folder


def plan(recipe: Recipe, home: Path, store: Sequence[str]) -> list[Step]:
    """The steps of a recipe, in order. They work in `home`/models/<preset or name>; `store` are the arguments that name the store."""
    work = home / "models" / (recipe.preset or recipe.name)
    named = ("--preset", recipe.preset) if recipe.preset else ("--name", recipe.name)
    steps: list[Step] = []
    folders: dict[Source, Path] = {}
    for source in (recipe.pipeline, recipe.build):
        if source is not None and source not in folders:
            folders[source] = _checkpoint(source, work, len(folders), steps, named)
    precision, device = ("--precision", recipe.precision), ("--device", recipe.device)
    onnx: Path | None = None
    if isinstance(recipe.onnx, HubFolder):
        onnx = work / "onnx"
        steps.append(_fetch("fetch_onnx", recipe.onnx, "onnx", onnx))
    elif recipe.onnx:
        onnx = recipe.onnx
    elif recipe.build:
        onnx = work / f"{recipe.name}-onnx"
        checkpoint = ("--checkpoint", str(folders[recipe.build]))
        steps.append(Step("build", "models.onnx_build", (*checkpoint, "--folder", str(onnx), *precision, *device)))
    if recipe.pipeline:
        checkpoint = ("--folder", str(folders[recipe.pipeline]))
        origin = _origin(recipe, recipe.pipeline)
        steps.append(Step("log_pipeline", "models.log_pipeline", (*checkpoint, *origin, *store)))
    if onnx:
        origin = _origin(recipe, recipe.onnx or recipe.build)
        steps.append(Step("log_onnx", "models.log_onnx", ("--folder", str(onnx), *origin, *precision, *device, *store)))
    return steps


def _origin(recipe: Recipe, source: Source | None) -> tuple[str, ...]:
    """How a log program is told whose weights these are."""
    if recipe.preset:
        return ("--preset", recipe.preset)
    return ("--name", recipe.name, "--source", source.repo if isinstance(source, HubFolder) else str(source))


def _checkpoint(source: Source, work: Path, number: int, steps: list[Step], named: tuple[str, ...]) -> Path:
    """Where the checkpoint of `source` is, or will be after the steps that this adds."""
    if isinstance(source, Path):
        return source
    folder = work / ("checkpoint" if number == 0 else f"checkpoint-{number}")
    if isinstance(source, HubFolder):
        steps.append(_fetch("fetch_checkpoint", source, "checkpoint", folder))
    else:
        gguf = work / Path(source.member).name
        steps.append(Step("fetch", "models.weights", ("--folder", str(work), *named)))
        steps.append(Step("convert", "models.checkpoint", ("--gguf", str(gguf), "--folder", str(folder))))
    return folder


def _fetch(stage: StageName, source: HubFolder, kind: str, folder: Path) -> Step:
    arguments = ("--repo", source.repo, "--revision", source.revision, "--kind", kind, "--folder", str(folder))
    subfolder = ("--subfolder", source.folder) if source.folder else ()
    return Step(stage, "models.hub", (*arguments, *subfolder))
