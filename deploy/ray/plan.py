"""Decide which models to deploy, and which model each name refers to in the meantime. Pure functions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

_CHAMPION = "@champion"


@dataclass(frozen=True)
class Plan:
    """The desired deployments, and the names available now."""

    deployed: frozenset[str]
    """Ids of the models to deploy or keep."""
    names: Mapping[str, str]
    """Ids of running models by the names that requests may use."""
    missing: tuple[str, ...]
    """Wanted names without a running model yet."""


def choose_wanted(served_names: Sequence[str], known: Mapping[str, str], newest: str | None) -> tuple[str, ...]:
    """Return the names to serve: those in the settings, otherwise the champions, otherwise the newest loadable model.

    `known` maps names to the ids of all models.
    """
    champions = tuple(name for name in known if name.endswith(_CHAMPION))
    return tuple(served_names) or champions or ((newest,) if newest else ())


def make_plan(
    wanted: Sequence[str], known: Mapping[str, str], running: Collection[str], served: Mapping[str, str]
) -> Plan:
    """Plan the next step towards serving `wanted`.

    A wanted name keeps referring to the model in `served` until its target in `known` is `running`, so that promoting a
    model causes no downtime.
    """
    targets = {name: known[name] for name in wanted if name in known}
    names = {name: model_id for name, model_id in known.items() if model_id in running}
    for name in wanted:
        if name not in names and served.get(name) in running:
            names[name] = served[name]
    missing = tuple(name for name in wanted if name not in names)
    # While a name is missing, nothing is removed: after a restart, the previously served models are unknown.
    kept = running if missing else (names[name] for name in wanted)
    return Plan(frozenset({*targets.values(), *kept}), names, missing)
