"""The entry points of MLproject as commands: `python -m phi3_ui.cli.project ENTRY_POINT name=value …`.

MLflow passes every parameter, also those that were not set: the empty ones are left out of the command.
"""

import sys
from collections.abc import Mapping

from models import prepare_program
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.pipeline_chat import PipelineChatContract

_CONTRACTS = {"log_pipeline": PipelineChatContract.name, "log_onnx": OnnxPromptContract.name}
_OWN = {"pipeline", "onnx", "build_onnx"}
_ARGUMENTS = ("model", "prompt", "file")

# An `mlflow run` records its parameters in the run, where logging records the precision and the revision as they
# turned out to be. So these have another name in the project.
_OPTIONS = {"build_precision": "precision", "hub_revision": "revision"}


def command(entry_point: str, parameters: Mapping[str, str]) -> list[str]:
    """The arguments of `python -m phi3_ui` that an entry point with these parameters means."""
    given = {name: value for name, value in parameters.items() if value}
    if entry_point in _CONTRACTS:
        if given.keys() & _OWN:  # in place of the preset, which has a default
            given.pop("preset", None)
        else:
            given |= {"contract": _CONTRACTS[entry_point]}
    options = [
        f"--{_OPTIONS.get(name, name).replace('_', '-')}={value}"
        for name, value in given.items()
        if name not in _ARGUMENTS
    ]
    # What follows a -- is no option, whatever it begins with.
    arguments = [given[name] for name in _ARGUMENTS if name in given]
    return ["log" if entry_point in _CONTRACTS else entry_point, *options, *(["--", *arguments] if arguments else [])]


if __name__ == "__main__":
    prepare_program()
    from phi3_ui.cli.main import main  # imports MLflow, which reads its telemetry switch then

    entry_point, *pairs = sys.argv[1:]
    main(command(entry_point, {name: value for name, _, value in (pair.partition("=") for pair in pairs)}))
