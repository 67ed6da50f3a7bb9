"""Finding installed packages, and builds that replace them."""

import importlib.metadata

import pytest

from models import packages
from models.packages import find_installed
from models.tracking import pin_versions


def test_a_package_is_named_with_its_version() -> None:
    assert find_installed("mlflow") == ("mlflow", importlib.metadata.version("mlflow"))


def test_an_engine_built_for_another_device_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"onnxruntime-genai-cuda": "0.18.0+cu12", "genai": "9.9"}

    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    providers = {"onnxruntime_genai": ["genai", "onnxruntime-genai-cuda"]}
    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(packages, "_list_providers", lambda: providers)
    assert find_installed("onnxruntime-genai") == ("onnxruntime-genai-cuda", "0.18.0+cu12")
    assert pin_versions(["onnxruntime-genai"]) == ["onnxruntime-genai-cuda==0.18.0"]
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        find_installed("onnxruntime")


def test_a_package_that_is_not_installed_is_an_error() -> None:
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        find_installed("no-such-package")
