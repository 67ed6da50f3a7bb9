"""The entry points of MLproject as commands: `python -m phi3_ui.cli.project ENTRY_POINT name=value …`.

MLflow passes every parameter, including those that were not set: empty ones are omitted from the command.
"""

import sys
from collections.abc import Mapping

from models import prepare_program
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.pipeline_chat import PipelineChatContract

_CONTRACTS = {"log_pipeline": PipelineChatContract.name, "log_onnx": OnnxPromptContract.name}
_OWN_WEIGHTS = {"pipeline", "onnx", "build_onnx"}
_ARGUMENTS = ("model", "prompt", "file")

# `mlflow run` records its parameters in the run, where logging records the actual precision and revision. Hence these two
# have different names in MLproject.
_OPTIONS = {"build_precision": "precision", "hub_revision": "revision"}


def build_arguments(entry_point: str, parameters: Mapping[str, str]) -> list[str]:
    """Translate an entry point and its parameters to the arguments of `python -m phi3_ui`."""
    given = {name: value for name, value in parameters.items() if value}
    if entry_point in _CONTRACTS:
        if given.keys() & _OWN_WEIGHTS:  # in place of the preset, which has a default
            given.pop("preset", None)
        else:
            given |= {"contract": _CONTRACTS[entry_point]}
    options = [
        f"--{_OPTIONS.get(name, name).replace('_', '-')}={value}"
        for name, value in given.items()
        if name not in _ARGUMENTS
    ]
    # Arguments after -- are not parsed as options, even if they begin with a dash.
    arguments = [given[name] for name in _ARGUMENTS if name in given]
    return ["log" if entry_point in _CONTRACTS else entry_point, *options, *(["--", *arguments] if arguments else [])]


if __name__ == "__main__":
    prepare_program()
    from phi3_ui.cli.main import main  # imports MLflow, which reads its telemetry switch on import

    entry_point, *pairs = sys.argv[1:]
    main(build_arguments(entry_point, {name: value for name, _, value in (pair.partition("=") for pair in pairs)}))
