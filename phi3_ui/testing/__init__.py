"""A scripted chat model for testing programs that chat with MLflow models. It needs no engine and no weights.

    model = log_scripted_model("sqlite:///mlflow.db", tmp_path, name="scripted")
    gate = model.create_gate()
    model.enqueue(Reply("Once upon ", gate, "a time."), Reply("No answer.", error="out of memory"))
    ...                        # ask through the page, the command line or mlflow.pyfunc: "Once upon " streams
    gate.wait_until_reached()  # the answer is in progress, and blocked
    gate.open()                # the answer completes: "Once upon a time."
    assert model.requests[-1].question == "Tell me a story."

The model is a genuine logged model: it is found in the store, loaded by MLflow in its own process and called through its
contract, like any other. Only its text comes from a folder, which the test and that process share.
Importing this module imports neither MLflow nor any other package.
"""

import itertools
import json
import re
import shutil
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Gate", "Hang", "Reply", "Request", "ScriptedModel", "log_scripted_model"]

CONTEXT_LENGTH = 8192
_CODE = Path(__file__).with_name("scripted_pyfunc.py")
_POLL_SECONDS = 0.01
_MARK = ".scripted-model"
_MAX_DESCRIPTION = 64_000  # characters


@dataclass(frozen=True)
class Gate:
    """A point in a reply at which the answer waits until the test opens the gate. A waiting answer can be stopped."""

    path: Path
    """Exists once the gate is open."""

    def open(self) -> None:
        """Let the answer continue, and every later one that reaches this gate."""
        self.path.touch()

    def wait_until_reached(self, timeout: float = 60) -> None:
        """Wait until an answer has reached the gate. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not self.path.with_suffix(".reached").exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer reached the gate {self.path.name} within {timeout} s")
            time.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class Hang:
    """A point in a reply at which the model hangs within a chunk, until its process ends."""

    holds_gil: bool = False
    """Whether to hold the GIL, so that no other thread of the process can run."""


@dataclass(frozen=True, init=False)
class Reply:
    """One scripted answer."""

    parts: tuple[str | Gate | Hang, ...]
    """Texts, streamed word by word, with gates or a hang between them; without parts, the answer echoes the question."""
    question: str | None
    """The question that this reply answers; None: whichever comes next."""
    endless: bool
    """Repeat the parts until the answer is stopped or has `max_tokens` tokens."""
    seconds_per_token: float
    """Pause before each token."""
    error: str | None
    """Fail with this message after the parts."""
    usage: tuple[int, int] | None
    """Prompt and completion tokens to report; None: the number of words, plus one token for the end of the turn."""

    def __init__(
        self,
        *parts: str | Gate | Hang,
        question: str | None = None,
        endless: bool = False,
        seconds_per_token: float = 0.0,
        error: str | None = None,
        usage: tuple[int, int] | None = None,
    ) -> None:
        if endless and not any(isinstance(part, str) and part for part in parts):
            raise ValueError("an endless reply needs text to repeat")
        vars(self).update(
            parts=parts,
            question=question,
            endless=endless,
            seconds_per_token=seconds_per_token,
            error=error,
            usage=usage,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the reply as JSON values."""
        return {**vars(self), "parts": [_pack_part(part) for part in self.parts]}


def _pack_part(part: str | Gate | Hang) -> str | dict[str, Any]:
    if isinstance(part, str):
        return part
    return {"gate": part.path.name} if isinstance(part, Gate) else {"hang": part.holds_gil}


@dataclass(frozen=True)
class Request:
    """One request that the model received."""

    messages: list[dict[str, str]]
    """OpenAI-style messages with `role` and `content`, the question last."""
    params: dict[str, Any]
    """The sampling parameters. Only `max_tokens` has an effect on the answer."""
    pid: int
    """The process that answered."""

    @property
    def question(self) -> str:
        """The last message."""
        return self.messages[-1]["content"]


@dataclass(frozen=True)
class ScriptedModel:
    """A scripted model in a store, and the folder through which a test scripts its answers."""

    name: str
    model_id: str
    uri: str
    """`models:/…`, for mlflow.pyfunc.load_model."""
    folder: Path
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count, repr=False, compare=False)

    def enqueue(self, *replies: Reply) -> None:
        """Queue replies for the following questions. Without a reply, the model echoes the question."""
        for reply in replies:
            file = self.folder / "queue" / f"{next(self._numbers):06}.json"
            part = file.with_suffix(".part")
            part.write_text(json.dumps(reply.as_dict()), encoding="utf-8")
            part.replace(file)

    def create_gate(self) -> Gate:
        """Return a new, closed gate to put between the parts of a reply."""
        return Gate(self.folder / "gates" / f"gate-{next(self._numbers):06}")

    @property
    def requests(self) -> list[Request]:
        """All requests since the model was logged or reset, oldest first."""
        log = self.folder / "requests.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [Request(**json.loads(line)) for line in lines]

    def reset(self) -> None:
        """Discard queued replies and past requests, and open every gate at which an answer waits."""
        for reached in (self.folder / "gates").glob("*.reached"):
            reached.with_suffix("").touch()
        shutil.rmtree(self.folder / "queue", ignore_errors=True)
        (self.folder / "queue").mkdir(parents=True)
        (self.folder / "requests.jsonl").unlink(missing_ok=True)


def find_script_folder(model_folder: str | None) -> str | None:
    """Return the script folder of the scripted model in `model_folder`, so that its process can be granted access; else None.

    The model's code must be identical to this package's, and the folder must have been created for a script.
    """
    if model_folder is None:
        return None
    code, description = Path(model_folder, _CODE.name), Path(model_folder, "MLmodel")
    try:
        if code.stat().st_size != _CODE.stat().st_size or code.read_bytes() != _CODE.read_bytes():
            return None
        with description.open(encoding="utf-8") as file:
            found = re.search(r"^ +folder: (.+)$", file.read(_MAX_DESCRIPTION), re.MULTILINE)
    except OSError:
        return None
    folder = Path(found[1].strip("'\"")) if found else None
    return str(folder) if folder and (folder / _MARK).is_file() else None


def log_scripted_model(
    tracking_uri: str, folder: Path, name: str = "scripted", context_length: int = CONTEXT_LENGTH
) -> ScriptedModel:
    """Log a scripted model in the experiment "scripted" of a store.

    Its replies, and the artifacts of the experiment if it has to be created, are stored in `folder`, which must exist as long as
    the model is used. `context_length` is in tokens, which are words here.
    """
    import mlflow
    from mlflow import MlflowClient
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

    script = folder.absolute() / name
    (script / "queue").mkdir(parents=True)
    (script / "gates").mkdir()
    (script / _MARK).touch()
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("scripted")
    experiment_id = (
        experiment.experiment_id
        if experiment
        else client.create_experiment("scripted", artifact_location=(folder.absolute() / "artifacts").as_uri())
    )
    signature = ModelSignature(
        inputs=Schema([ColSpec(DataType.string, "prompt")]),
        outputs=Schema([ColSpec(DataType.string)]),
        params=ParamSchema(
            [
                ParamSpec("max_tokens", DataType.long, 512),
                ParamSpec("temperature", DataType.double, 0.2),
                ParamSpec("top_p", DataType.double, 0.95),
                ParamSpec("top_k", DataType.long, 50),
                ParamSpec("seed", DataType.long, -1),
            ]
        ),
    )
    previous_uri = mlflow.get_tracking_uri()  # `log_model` accepts no store and uses the process's
    mlflow.set_tracking_uri(tracking_uri)
    try:
        with mlflow.start_run(experiment_id=experiment_id, run_name=name), warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
            logged = mlflow.pyfunc.log_model(
                name=name,
                python_model=str(_CODE),
                model_config={"folder": str(script), "cache_mb": 0},
                signature=signature,
                streamable=True,
                pip_requirements=[],
                metadata={
                    "contract": "prompt",
                    "chat_template": "{{ messages | tojson }}",
                    "context_length": context_length,
                    "title": "Scripted model",
                },
            )
    finally:
        mlflow.set_tracking_uri(previous_uri)
    return ScriptedModel(name, str(logged.model_id), str(logged.model_uri), script)
