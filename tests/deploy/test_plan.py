"""The rollout plan, tested without a cluster: which models are deployed and served."""

import ast
from pathlib import Path

import yaml  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from deploy.ray.plan import Plan, choose_wanted, make_plan
from deploy.ray.settings import RaySettings
from phi3_ui.paths import ROOT
from tests.support.lock import read_pins

NAME = "phi3@champion"


def test_by_default_the_champions_are_served_or_else_the_newest_model() -> None:
    known = {"a@champion": "m-1", "a/1": "m-1", "b@champion": "m-2", "c": "m-3"}

    assert choose_wanted([], known, "m-3") == ("a@champion", "b@champion")
    assert choose_wanted(["c"], known, "m-3") == ("c",)
    assert choose_wanted([], {"c": "m-3"}, "m-3") == ("m-3",)
    assert choose_wanted([], {}, None) == ()


def test_a_name_is_missing_until_its_model_runs() -> None:
    assert make_plan([NAME], {NAME: "m-1"}, set(), {}) == Plan(frozenset({"m-1"}), {}, (NAME,))
    assert make_plan([NAME], {NAME: "m-1"}, {"m-1"}, {}) == Plan(frozenset({"m-1"}), {NAME: "m-1"}, ())
    assert make_plan([NAME], {}, set(), {}).missing == (NAME,)


def test_a_promoted_name_refers_to_its_old_model_until_the_new_one_runs() -> None:
    promoted = {NAME: "m-2", "phi3/1": "m-1"}

    during = make_plan([NAME], promoted, {"m-1"}, {NAME: "m-1"})
    assert during == Plan(frozenset({"m-1", "m-2"}), {NAME: "m-1", "phi3/1": "m-1"}, ())
    after = make_plan([NAME], promoted, {"m-1", "m-2"}, during.names)
    assert after == Plan(frozenset({"m-2"}), {NAME: "m-2", "phi3/1": "m-1"}, ())


def test_running_models_stay_deployed_while_a_name_is_missing() -> None:
    """This happens when the rollout restarts during a promotion."""
    assert make_plan([NAME], {NAME: "m-2"}, {"m-1"}, {}).deployed == {"m-1", "m-2"}


ids = st.sampled_from(["m-1", "m-2", "m-3"])
names = st.sampled_from(["a@champion", "a/1", "b", "m-1"])


@given(st.lists(names, unique=True), st.dictionaries(names, ids), st.sets(ids), st.dictionaries(names, ids))
def test_every_name_refers_to_a_running_model_and_wanted_ones_stay_deployed(
    wanted: list[str], known: dict[str, str], running: set[str], served: dict[str, str]
) -> None:
    plan = make_plan(wanted, known, running, served)

    assert set(plan.names.values()) <= running
    assert set(plan.missing) == set(wanted) - set(plan.names)
    assert {plan.names[name] for name in wanted if name in plan.names} <= plan.deployed
    assert {known[name] for name in wanted if name in known} <= plan.deployed


def test_the_kubernetes_manifest_matches_the_code_and_the_pins() -> None:
    manifest = yaml.safe_load(Path(ROOT, "deploy", "ray", "rayservice.yaml").read_text(encoding="utf-8"))
    cluster = manifest["spec"]["rayClusterConfig"]
    (application,) = yaml.safe_load(manifest["spec"]["serveConfigV2"])["applications"]
    module, _, attribute = application["import_path"].partition(":")
    source = ast.parse(Path(ROOT, *module.split(".")).with_suffix(".py").read_text(encoding="utf-8"))
    assert any(isinstance(node, ast.Assign) and node.targets[0].id == attribute for node in source.body)  # type: ignore[attr-defined]
    assert cluster["rayVersion"] == next(iter(read_pins()["ray"].specifier)).version

    known = {field.validation_alias for field in RaySettings.model_fields.values()}
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in pods:
        (container,) = pod["template"]["spec"]["containers"]
        names = {variable["name"] for variable in container["env"]}
        assert {name for name in names if name.startswith(("PHI3_UI", "MLFLOW"))} <= known


def test_the_documentation_lists_every_setting() -> None:
    text = Path(ROOT, "docs", "ray.md").read_text(encoding="utf-8")
    for field in RaySettings.model_fields.values():
        if str(field.validation_alias).startswith("PHI3_UI_RAY"):
            assert f"`{field.validation_alias}`" in text
