"""The recipes of presets and of the user's own weights, and their steps."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.presets import HubFolder, load_preset, preset_keys
from phi3_ui.errors import UserError
from phi3_ui.provision.recipes import STAGES, Recipe, Step, plan, recipe_from_arguments, recipe_from_preset

HOME = Path("/home/of/the/app")
STORE = ("--tracking-uri", "sqlite:///x.db")
PHI = "microsoft/Phi-3-mini-4k-instruct"


def options(step: Step) -> dict[str, str]:
    """Return the arguments of a step, by name."""
    names, values = step.arguments[::2], step.arguments[1::2]
    return dict(zip(names, values, strict=True))


def stages(recipe: Recipe) -> list[str]:
    return [step.stage for step in plan(recipe, HOME, STORE)]


def test_the_embedded_preset_is_fetched_converted_built_and_logged_twice() -> None:
    recipe = recipe_from_preset("demo")
    steps = plan(recipe, HOME, STORE)

    assert [step.stage for step in steps] == ["fetch", "convert", "build", "log_onnx", "log_pipeline"]
    fetch, convert, build, log_onnx, log_pipeline = (options(step) for step in steps)
    assert convert["--gguf"].startswith(fetch["--folder"])
    assert build["--checkpoint"] == convert["--folder"] == log_pipeline["--folder"]
    assert log_onnx["--folder"] == build["--folder"]
    assert log_onnx["--precision"] == build["--precision"] == "int8"
    assert {one["--tracking-uri"] for one in (log_pipeline, log_onnx)} == {"sqlite:///x.db"}
    assert {one["--preset"] for one in (log_pipeline, log_onnx)} == {"demo"}


@pytest.mark.parametrize("key", [key for key in preset_keys() if key != "demo"])
@pytest.mark.parametrize("device", ["cpu", "cuda", "directml"])
def test_a_phi_preset_is_fetched_from_the_hub_in_both_forms(key: str, device: str) -> None:
    steps = plan(recipe_from_preset(key, device), HOME, STORE)

    assert [step.stage for step in steps] == ["fetch_onnx", "log_onnx", "fetch_checkpoint", "log_pipeline"]
    onnx, log_onnx, checkpoint, log_pipeline = (options(step) for step in steps)
    preset = load_preset(key)
    assert preset.pipeline
    assert (checkpoint["--repo"], checkpoint["--kind"]) == (preset.pipeline.repo, "checkpoint")
    assert (onnx["--subfolder"], onnx["--kind"]) == (preset.onnx[device].folder, "onnx")
    assert log_pipeline["--folder"] == checkpoint["--folder"]
    assert log_onnx["--folder"] == onnx["--folder"]
    assert log_onnx["--device"] == device


def test_only_the_steps_of_the_chosen_contracts_are_planned() -> None:
    assert stages(recipe_from_preset("demo", contracts=["prompt"])) == ["fetch", "convert", "build", "log_onnx"]
    assert stages(recipe_from_preset("phi-3-mini-4k", contracts=["chat"])) == ["fetch_checkpoint", "log_pipeline"]
    assert stages(recipe_from_preset("demo", contracts=[])) == []


def test_a_pinned_revision_is_passed_to_every_fetch() -> None:
    recipe = recipe_from_preset("phi-3-mini-4k", revision="abc123")
    fetches = [options(step) for step in plan(recipe, HOME, STORE) if step.module == "models.hub"]

    assert [fetch["--revision"] for fetch in fetches] == ["abc123", "abc123"]


@pytest.mark.parametrize(
    ("device", "key", "sentence"),
    [
        ("cuda", "demo", "Choose one of these: cpu"),
        ("npu", "phi-3-mini-4k", "Choose one of these: cpu, cuda, directml"),
    ],
)
def test_a_device_that_the_preset_lacks_is_reported(device: str, key: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        recipe_from_preset(key, device)


def test_an_unknown_preset_is_reported() -> None:
    with pytest.raises(UserError, match=r"no preset phi-0\. Choose one of these: demo"):
        recipe_from_preset("phi-0")


def test_custom_hub_ids() -> None:
    recipe = recipe_from_arguments(pipeline=PHI, onnx=f"{PHI}-onnx:cpu/int4", revision="v1")

    assert recipe.name == "phi-3-mini-4k-instruct"
    assert recipe.pipeline == HubFolder(PHI, "v1")
    assert recipe.onnx == HubFolder(f"{PHI}-onnx", "v1", "cpu/int4")
    assert stages(recipe) == ["fetch_onnx", "log_onnx", "fetch_checkpoint", "log_pipeline"]
    _, log_onnx, _, log_pipeline = (options(step) for step in plan(recipe, HOME, STORE))
    assert (log_pipeline["--source"], log_onnx["--source"]) == (PHI, f"{PHI}-onnx")
    assert log_onnx["--name"] == recipe.name


def test_one_checkpoint_for_both_forms_is_fetched_once() -> None:
    recipe = recipe_from_arguments(pipeline=PHI, build_onnx=PHI, precision="int8", device="cuda", name="Mine, all!")

    assert recipe.name == "mine-all"
    assert stages(recipe) == ["fetch_checkpoint", "build", "log_onnx", "log_pipeline"]
    build = options(plan(recipe, HOME, STORE)[1])
    assert (build["--precision"], build["--device"]) == ("int8", "cuda")


def test_two_checkpoints_get_separate_folders() -> None:
    steps = plan(recipe_from_arguments(pipeline=PHI, build_onnx="other/model"), HOME, STORE)
    folders = [options(step)["--folder"] for step in steps if step.stage == "fetch_checkpoint"]

    assert len(set(folders)) == 2


def test_local_folders_are_used_in_place(tmp_path: Path) -> None:
    (tmp_path / "onnx" / "cpu").mkdir(parents=True)
    recipe = recipe_from_arguments(onnx=f"{tmp_path / 'onnx'}:cpu", pipeline=str(tmp_path))

    assert stages(recipe) == ["log_onnx", "log_pipeline"]
    assert options(plan(recipe, HOME, STORE)[0])["--folder"] == str(tmp_path / "onnx" / "cpu")


def test_an_invalid_source_is_reported() -> None:
    with pytest.raises(UserError, match="neither a folder"):
        recipe_from_arguments(pipeline="no-such-thing")
    with pytest.raises(UserError, match="No weights were given"):
        recipe_from_arguments()
    with pytest.raises(UserError, match="one source"):
        recipe_from_arguments(onnx=f"{PHI}-onnx", build_onnx=PHI)


@given(st.text(max_size=60))
def test_any_name_becomes_a_valid_folder_name(name: str) -> None:
    made = recipe_from_arguments(pipeline=PHI, name=name).name

    assert made
    assert not set(made) & set("/\\:;,'\" \n")
    assert made.strip(".") == made


def test_every_stage_has_a_share_of_the_progress() -> None:
    made = {stage for key in preset_keys() for stage in stages(recipe_from_preset(key))}

    assert made == set(STAGES)
