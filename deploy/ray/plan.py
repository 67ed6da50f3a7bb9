"""Which models are to be deployed, and which one a name stands for meanwhile. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_CHAMPION = "@champion"


@dataclass(frozen=True)
class Plan:
    """The state to work towards, and what may be asked now."""

    deployed: frozenset[str]
    """Ids of the models to deploy, or to keep."""
    names: Mapping[str, str]
    """Ids of running models by the names that requests may use."""
    missing: tuple[str, ...]
    """Wanted names that no running model has yet."""


def choose_wanted(served_names: Sequence[str], known: Mapping[str, str], newest: str | None) -> tuple[str, ...]:
    """The names to serve: those of the settings, or else the champions, or else the newest loadable model.

    `known` has the ids of all models by name.
    """
    champions = tuple(name for name in known if name.endswith(_CHAMPION))
    return tuple(served_names) or champions or ((newest,) if newest else ())


def make_plan(
    wanted: Sequence[str], known: Mapping[str, str], running: Collection[str], served: Mapping[str, str]
) -> Plan:
    """Plan the next step towards serving `wanted`.

    A wanted name goes on standing for the model that it was `served` with until the one that it is `known` to stand for is
    `running`: promoting a model leaves no moment without an answer.
    """
    targets = {name: known[name] for name in wanted if name in known}
    names = {name: model_id for name, model_id in known.items() if model_id in running}
    for name in wanted:
        if name not in names and served.get(name) in running:
            names[name] = served[name]
    missing = tuple(name for name in wanted if name not in names)
    # While a name is missing, nothing ends: after a restart, what was served before is not known.
    kept = running if missing else (names[name] for name in wanted)
    return Plan(frozenset({*targets.values(), *kept}), names, missing)
