"""Lists and reads the files of a model in its artifact store without downloading the weights."""

from pathlib import Path
from typing import Literal

from mlflow.models import Model
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.pipeline_chat import PipelineChatContract
from phi3_ui.store.registry.catalogue import ONNX_ARTIFACT
from phi3_ui.store.registry.mlmodel import parse_mlmodel
from phi3_ui.store.registry.remote_files import RemoteFiles
from phi3_ui.store.registry.store_models import StoreModels

_MAX_READ_BYTES = 8_000_000  # more than any index, configuration or code file


class ArtifactFiles:
    """The files of one model."""

    def __init__(self, tracking_uri: str, model_id: str, scratch: Path) -> None:
        """List the files. `scratch` is a folder for downloads.

        Raises:
            UserError: model_gone; model_unreadable if there are too many files for a model, or one is outside of it.
            MlflowException: The store cannot be read.
        """
        model = StoreModels(tracking_uri).find(model_id)
        self.name = model.name
        self.run_id = model.run_id
        self.repository: ArtifactRepository = get_artifact_repository(model.artifact_uri, tracking_uri)
        self._scratch = scratch
        self._downloaded = dict[str, Path]()
        self.sizes: dict[str, int | None] = RemoteFiles(self.repository, self.name).sizes
        """Bytes by path; None if the store does not report the size."""

    def read(self, path: str) -> bytes | None:
        """Return the content of a small file; None if there is no such file or it is larger than 8 MB."""
        if path not in self.sizes or (self.sizes[path] or 0) > _MAX_READ_BYTES:
            return None
        return self._download(path).read_bytes()

    def load_mlmodel(self) -> Model | None:
        """Return the parsed MLmodel file; None if there is none. Raises UserError("model_unreadable") if it is damaged."""
        if not self.contains("MLmodel"):
            return None
        return parse_mlmodel(self._download("MLmodel"), self.name)

    def _download(self, path: str) -> Path:
        if path not in self._downloaded:  # a second download cannot overwrite a file that is read-only in the store
            self._downloaded[path] = Path(self.repository.download_artifacts(path, str(self._scratch)))
        return self._downloaded[path]

    def contains(self, path: str) -> bool:
        """Return whether there is a file or a folder with this path."""
        return path in self.sizes or any(file.startswith(f"{path}/") for file in self.sizes)


def classify_model(info: Model) -> Literal["pipeline", "onnx"] | None:
    """Return which of the app's logging programs logged a model; None for a third-party model."""
    metadata = info.metadata or {}
    function = info.flavors.get("python_function", {})
    if metadata.get("contract") == OnnxPromptContract.name and ONNX_ARTIFACT in (function.get("artifacts") or {}):
        return "onnx"
    if metadata.get("contract") == PipelineChatContract.name and "model_binary" in info.flavors.get("transformers", {}):
        return "pipeline"
    return None
