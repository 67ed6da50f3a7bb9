"""Which models may be loaded without approval: the inspection, and every known attempt to bypass it."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from models.wrapper_code import ENGINE, code_files
from phi3_ui.store.registry import fingerprint
from phi3_ui.store.registry.released_code import RELEASED, WRAPPER
from phi3_ui.store.registry.trust import Inspection, inspect_model
from tests.support.model_folders import (
    SAFETENSORS,
    change_flavor,
    change_json,
    onnx_file,
    write_json,
    write_mlmodel,
    write_pipeline,
    write_wrapper,
)
from tests.support.tiny_models import TinyStore

Change = Callable[[Path], object]

# The last release whose code was two files.
_EARLIER_WRAPPER = "a627e7ce8c232489eb9b793695b38eeb6255710869190c7749e37cb1ac71ce53"
_EARLIER_SLOTS = "b3b54f219f4d527aa9ee73574191fece4077521d7918afe7d57278022b3cbc59"


def shown(inspection: Inspection) -> set[tuple[str, str]]:
    assert inspection.level == "code"
    return {(suspect.path, suspect.reason) for suspect in inspection.suspects}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    return write_pipeline(tmp_path / "pipeline")


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    return write_wrapper(tmp_path / "wrapper")


def test_data_only_models_and_our_wrapper_need_no_approval(pipeline: Path, wrapper: Path) -> None:
    assert inspect_model(pipeline) == Inspection("data_only", (), "")
    assert inspect_model(wrapper) == Inspection("ours", (), "")


def test_the_released_code_includes_the_current_code() -> None:
    for path, file in code_files().items():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert digest in RELEASED[path], f"add {digest} for {path} to phi3_ui/store/registry/released_code.py"


def test_models_of_earlier_releases_need_no_approval(wrapper: Path) -> None:
    """Their code was one file, plus a second one in the folder `code`."""
    earlier = {WRAPPER: _EARLIER_WRAPPER, "code/phi3_onnx_slots.py": _EARLIER_SLOTS}
    assert all(digest in RELEASED[path] for path, digest in earlier.items())
    shutil.rmtree(wrapper / "code" / ENGINE.name)
    assert inspect_model(wrapper).level == "ours", "code that is not there cannot run"


def test_models_that_the_project_logs_need_no_approval(tiny: TinyStore) -> None:
    for (_, contract), model_id in tiny.model_ids.items():
        folder = tiny.spec(contract).folder if model_id else None
        assert folder
        assert inspect_model(Path(folder)).level == {"chat": "data_only", "prompt": "ours"}[contract]


def rewrite(name: str, text: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)

    return change


def append(name: str, text: str) -> Change:
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


def link(name: str, target: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def write_bytes(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def function(**entries: object) -> Change:
    return lambda folder: change_flavor(folder, "python_function", **entries)


def flavor(name: str, **entries: object) -> Change:
    return lambda folder: change_flavor(folder, name, **entries)


def config(name: str, **entries: object) -> Change:
    return lambda folder: change_json(folder / name, **entries)


PICKLE = pickle.dumps(print)
PACKAGE = f"code/{ENGINE.name}"

PIPELINE_ATTACKS: list[tuple[str, Change, set[tuple[str, str]]]] = [
    (
        "auto_map",
        config("model/config.json", auto_map={"AutoModel": "x.Y"}),
        {("model/config.json: auto_map", "remote_code")},
    ),
    (
        "nested auto_map",
        config("model/config.json", text_config={"list": [{"auto_map": {"AutoModel": "elsewhere--x.Y"}}]}),
        {("model/config.json: auto_map", "remote_code")},
    ),
    (
        "auto_map of the tokenizer",
        config("components/tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["x.Y", None]}),
        {("components/tokenizer/tokenizer_config.json: auto_map", "remote_code")},
    ),
    (
        "auto_map of a processor",
        config("components/processor/processor_config.json", auto_map={"AutoProcessor": "x.Y"}),
        {("components/processor/processor_config.json: auto_map", "remote_code")},
    ),
    (
        "custom pipelines",
        config("model/config.json", custom_pipelines={"x": {}}),
        {("model/config.json: custom_pipelines", "remote_code")},
    ),
    (
        "kernel of the hub",
        config("model/config.json", _attn_implementation="who/kernel"),
        {("model/config.json: _attn_implementation", "remote_code")},
    ),
    (
        "custom generate",
        rewrite("model/custom_generate/generate.py", ""),
        {("model/custom_generate/generate.py", "python")},
    ),
    ("remote code", function(config={"trust_remote_code": True}), {("MLmodel: config.trust_remote_code", "setting")}),
    (
        "generate of elsewhere",
        function(config={"custom_generate": "/tmp/x"}),
        {("MLmodel: config.custom_generate", "setting")},
    ),
    ("nested option", function(config={"stop": [{"custom_generate": 1}]}), {("MLmodel: config.stop", "setting")}),
    ("old options", rewrite("components/inference_config.txt", "{}"), {("components/inference_config.txt", "setting")}),
    ("Python file", rewrite("model/modeling.py", ""), {("model/modeling.py", "python")}),
    ("Python file behind a link", link("model/notes.txt", "../model/config.PY"), {("model/notes.txt", "unreadable")}),
    (
        "link to a Python file",
        lambda f: (rewrite("a.py", "")(f), link("model/notes.txt", "../a.py")(f)),
        {("a.py", "python"), ("model/notes.txt", "python")},
    ),
    (
        "link that leaves",
        link("model/config.json", "/etc/hostname"),
        {("model/config.json", "link"), ("model/config.json", "unreadable")},
    ),
    ("folder behind a link", link("model/more", "/etc"), {("model/more", "link")}),
    ("pipe", lambda f: os.mkfifo(f / "model" / "merges.txt"), {("model/merges.txt", "special")}),
    ("weights as a pickle", write_bytes("model/pytorch_model.bin", PICKLE), {("model/pytorch_model.bin", "pickle")}),
    (
        "pickle called safetensors",
        write_bytes("model/model-00001-of-00001.safetensors", PICKLE),
        {("model/model-00001-of-00001.safetensors", "weights")},
    ),
    ("empty safetensors", write_bytes("model/model.safetensors", b""), {("model/model.safetensors", "weights")}),
    ("library", write_bytes("model/libx.so.1", b""), {("model/libx.so.1", "binary")}),
    ("unknown kind", write_bytes("model/weights.gguf", b""), {("model/weights.gguf", "unknown")}),
    ("capitals", write_bytes("model/X.PKL", b""), {("model/X.PKL", "pickle")}),
    ("name with a line break", rewrite("model/a\n.json", "{}"), {("model/a\n.json", "unknown")}),
    (
        "weights elsewhere",
        config("model/model.safetensors.index.json", weight_map={"a": "../../x.safetensors"}),
        {("model/model.safetensors.index.json: weight_map", "elsewhere")},
    ),
    (
        "index of pickles",
        lambda f: (
            write_bytes("model/x.bin", b"")(f),
            config("model/pytorch_model.bin.index.json", weight_map={"a": "x.bin"})(f),
        ),
        {("model/x.bin", "pickle"), ("model/pytorch_model.bin.index.json: weight_map", "weights")},
    ),
    (
        "odd index",
        config("model/model.safetensors.index.json", weight_map=[1]),
        {("model/model.safetensors.index.json", "unreadable")},
    ),
    ("deep configuration", rewrite("model/config.json", "[" * 100_000), {("model/config.json", "unreadable")}),
    ("large configuration", rewrite("model/config.json", " " * 4_000_001), {("model/config.json", "unreadable")}),
    (
        "adapter",
        config("model/adapter_config.json", base_model_name_or_path="/x"),
        {("model/adapter_config.json", "elsewhere")},
    ),
    ("adapter in MLmodel", flavor("transformers", peft_adaptor="peft"), {("MLmodel: peft_adaptor", "elsewhere")}),
    (
        "weights of the hub",
        flavor("transformers", source_model_revision="a1"),
        {("MLmodel: source_model_revision", "elsewhere")},
    ),
    (
        "weights of a folder",
        flavor("transformers", local_base_model_path="/x"),
        {("MLmodel: local_base_model_path", "elsewhere")},
    ),
    ("weights outside", flavor("transformers", model_binary="../x"), {("MLmodel: model_binary", "elsewhere")}),
    ("no class", flavor("transformers", tokenizer_type="os.system"), {("MLmodel: tokenizer_type", "setting")}),
    ("component outside", flavor("transformers", components=["../../x"]), {("MLmodel: components", "setting")}),
    ("unknown entry", flavor("transformers", trust_remote_code=True), {("MLmodel: trust_remote_code", "setting")}),
    ("code path", function(code="code"), {("MLmodel: code", "code_path")}),
    ("code path outside", function(code="../x"), {("MLmodel: code", "code_path")}),
    ("code path of the flavor", flavor("transformers", code="code"), {("MLmodel: code", "code_path")}),
    ("model in a subfolder", function(data="model"), {("MLmodel: data", "elsewhere")}),
    ("second MLmodel", rewrite("model/MLmodel", ""), {("model/MLmodel", "elsewhere")}),
    ("another function", function(predict_fn="__init__"), {("MLmodel: predict_fn", "setting")}),
    ("pickle beside", function(python_model="x.pkl"), {("MLmodel: python_model", "pickle")}),
    ("models from code beside", function(model_code_path="x.py"), {("MLmodel: model_code_path", "setting")}),
    ("another flavor", flavor("sklearn", pickled_model="x"), {("MLmodel: sklearn", "flavor")}),
    ("another loader", function(loader_module="mlflow.sklearn"), {("MLmodel: loader_module", "loader")}),
    ("loader called transformers", function(loader_module="transformers"), {("MLmodel: loader_module", "loader")}),
    (
        "loader twice",
        lambda f: rewrite(
            "MLmodel",
            (f / "MLmodel").read_text().replace("    loader_module", "    loader_module: x\n    loader_module"),
        )(f),
        {("MLmodel", "unreadable")},
    ),
    ("no MLmodel", lambda f: (f / "MLmodel").unlink(), {("MLmodel", "unreadable")}),
]

WRAPPER_ATTACKS: list[tuple[str, Change, set[tuple[str, str]]]] = [
    ("changed wrapper", append(WRAPPER, "\n"), {(WRAPPER, "python")}),
    ("changed module", append(f"{PACKAGE}/slots.py", "\n"), {(f"{PACKAGE}/slots.py", "python")}),
    ("modules swapped", lambda f: (f / WRAPPER).write_bytes((f / PACKAGE / "slots.py").read_bytes()), {(WRAPPER, "python")}),
    ("modules of the package swapped", lambda f: shutil.copy(f / PACKAGE / "pace.py", f / PACKAGE / "slots.py"), {(f"{PACKAGE}/slots.py", "python")}),
    ("module of another name in the package", rewrite(f"{PACKAGE}/extra.py", ""), {(f"{PACKAGE}/extra.py", "python")}),
    ("package in place of a module", rewrite(f"{PACKAGE}/slots/__init__.py", ""), {(f"{PACKAGE}/slots/__init__.py", "python")}),
    ("library in place of a module", write_bytes(f"{PACKAGE}/slots.abi3.so", b""), {(f"{PACKAGE}/slots.abi3.so", "binary")}),
    ("module that shadows", rewrite("code/json.py", ""), {("code/json.py", "python")}),
    ("package that shadows", rewrite("code/numpy/__init__.py", ""), {("code/numpy/__init__.py", "python")}),
    ("entry points", rewrite("code/x.dist-info/entry_points.txt", ""), {("code/x.dist-info/entry_points.txt", "code_path")}),
    ("compiled module", write_bytes("code/json.pyc", b""), {("code/json.pyc", "python")}),
    ("library beside", write_bytes("code/json.abi3.so", b""), {("code/json.abi3.so", "binary")}),
    ("helper beside", rewrite("helper.py", ""), {("helper.py", "python")}),
    ("other code", function(model_code_path="/x/other.py"), {("MLmodel: model_code_path", "code_path")}),
    ("other code folder", function(code="."), {("MLmodel: code", "code_path")}),
    ("pickle first", function(python_model="python_model.pkl"), {("MLmodel: python_model", "pickle")}),
    ("other loader", function(loader_module="mlflow.pyfunc.loaders.chat_agent"), {("MLmodel: loader_module", "loader")}),
    ("model in a subfolder", function(data="artifacts"), {("MLmodel: data", "elsewhere")}),
    ("artifact outside", function(artifacts={"phi3-mini-onnx": {"path": "/etc"}}), {("MLmodel: artifacts", "elsewhere")}),
    ("artifact upwards", function(artifacts={"phi3-mini-onnx": {"path": "artifacts/.."}}), {("MLmodel: artifacts", "elsewhere")}),
    ("second artifact", function(artifacts={"phi3-mini-onnx": {"path": "artifacts/onnx"}, "x": {"path": "y"}}), {("MLmodel: artifacts", "elsewhere")}),
    ("unknown option", function(config={"folder": "/x"}), {("MLmodel: config.folder", "setting")}),
    ("transformers too", flavor("transformers", task="x"), {("MLmodel: transformers", "flavor")}),
    (
        "custom operators",
        config("artifacts/onnx/genai_config.json", session_options={"custom_ops_library": "x"}),
        {("artifacts/onnx/genai_config.json: custom_ops_library", "library")},
    ),
    (
        "provider library",
        config("artifacts/onnx/genai_config.json", provider_options=[{"qnn": {"backend_path": "libx.so"}}]),
        {("artifacts/onnx/genai_config.json: backend_path", "library")},
    ),
    (
        "model elsewhere",
        config("artifacts/onnx/genai_config.json", model={"decoder": {"filename": "../../x.onnx"}}),
        {("artifacts/onnx/genai_config.json: filename", "elsewhere")},
    ),
    (
        "repeated key",
        rewrite("artifacts/onnx/genai_config.json", '{"custom_ops_library": "x", "custom_ops_library": ""}'),
        {("artifacts/onnx/genai_config.json", "unreadable")},
    ),
    (
        "model under another name",
        config("artifacts/onnx/genai_config.json", model={"decoder": {"filename": "model.onnx.data"}}),
        {("artifacts/onnx/genai_config.json: filename", "elsewhere")},
    ),
    ("weights elsewhere", write_bytes("artifacts/onnx/model.onnx", onnx_file("../../../x")), {("artifacts/onnx/model.onnx: location", "elsewhere")}),
    ("weights hidden by a long tag", write_bytes("artifacts/onnx/model.onnx", onnx_file("../x", hidden_bit=33)), {("artifacts/onnx/model.onnx", "unreadable")}),
    ("a name with a control character", config("artifacts/onnx/genai_config.json", model={"decoder": {"filename": "x.txt\0.onnx"}}), {("artifacts/onnx/genai_config.json: filename", "elsewhere")}),
    ("weights of the system", write_bytes("artifacts/onnx/model.onnx", onnx_file("/etc/passwd")), {("artifacts/onnx/model.onnx: location", "elsewhere")}),
    ("no ONNX", write_bytes("artifacts/onnx/model.onnx", b"\xff" * 40), {("artifacts/onnx/model.onnx", "unreadable")}),
    ("pickle in the artifact", write_bytes("artifacts/onnx/x.pkl", PICKLE), {("artifacts/onnx/x.pkl", "pickle")}),
    ("Python file in the artifact", rewrite("artifacts/onnx/x.py", ""), {("artifacts/onnx/x.py", "python")}),
    ("weights behind a link", link("artifacts/onnx/model.onnx.data", "/etc/hostname"), {("artifacts/onnx/model.onnx.data", "link")}),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [pytest.param(*rest, id=name) for name, *rest in PIPELINE_ATTACKS])
def test_a_pipeline_that_is_more_than_data_is_code(
    pipeline: Path, change: Change, expected: set[tuple[str, str]]
) -> None:
    change(pipeline)

    assert expected <= shown(inspect_model(pipeline))


@pytest.mark.parametrize(("change", "expected"), [pytest.param(*rest, id=name) for name, *rest in WRAPPER_ATTACKS])
def test_a_wrapper_that_is_not_as_released_is_code(
    wrapper: Path, change: Change, expected: set[tuple[str, str]]
) -> None:
    change(wrapper)

    assert expected <= shown(inspect_model(wrapper))


def test_other_models_are_code_and_name_their_files(tmp_path: Path) -> None:
    write_mlmodel(
        tmp_path / "pickled",
        python_function={"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl", "code": "code"},
    )
    write_bytes("python_model.pkl", PICKLE)(tmp_path / "pickled")
    rewrite("code/helper.py", "")(tmp_path / "pickled")
    write_mlmodel(
        tmp_path / "from-code",
        python_function={"loader_module": "mlflow.pyfunc.loaders.code_model", "model_code_path": "say.py"},
    )
    rewrite("say.py", "")(tmp_path / "from-code")
    write_mlmodel(tmp_path / "bare", python_function={"loader_module": "mlflow.pyfunc.model"})

    assert shown(inspect_model(tmp_path / "pickled")) == {
        ("MLmodel: python_model", "pickle"),
        ("MLmodel: code", "code_path"),
        ("python_model.pkl", "pickle"),
        ("code/helper.py", "python"),
    }
    assert shown(inspect_model(tmp_path / "from-code")) == {("say.py", "python")}
    assert shown(inspect_model(tmp_path / "bare")) == {("MLmodel: loader_module", "loader")}


def test_requirements_of_a_model_are_not_code(pipeline: Path) -> None:
    """Nothing is installed for a model."""
    rewrite("requirements.txt", "evil-package==1\n--index-url http://x")(pipeline)

    assert inspect_model(pipeline).level == "data_only"


def test_a_fingerprint_covers_the_names_and_contents_of_all_files(tmp_path: Path) -> None:
    def identify(*changes: Change) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        write_wrapper(folder)
        rewrite("helper.py", "1")(folder)
        for change in changes:
            change(folder)
        return inspect_model(folder).fingerprint

    first = identify()
    assert len(first) == 64
    assert identify() == first
    assert identify(rewrite("__pycache__/helper.pyc", "left by Python")) == first, "it is not loaded"
    others = [
        rewrite("helper.py", "2"),
        rewrite("helper2.py", ""),
        lambda folder: (folder / "helper.py").rename(folder / "other.py"),
        write_bytes("artifacts/onnx/model.onnx.data", b"\1"),
        function(streamable=False),
        lambda folder: (folder / "requirements.txt").unlink(),
    ]
    assert len({first, *map(identify, others)}) == len(others) + 1


def test_a_change_that_keeps_the_size_and_time_of_a_file_is_detected(wrapper: Path) -> None:
    rewrite("helper.py", "1")(wrapper)
    before, found = inspect_model(wrapper).fingerprint, (wrapper / "helper.py").stat()
    rewrite("helper.py", "2")(wrapper)
    os.utime(wrapper / "helper.py", ns=(found.st_atime_ns, found.st_mtime_ns))

    assert inspect_model(wrapper).fingerprint != before


def test_a_huge_folder_is_not_listed_completely(wrapper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprint, "MAX_FILES", 30)
    (wrapper / "artifacts" / "many").mkdir()
    for number in range(30):
        (wrapper / "artifacts" / "many" / f"{number}.txt").touch()

    assert "unreadable" in {reason for _, reason in shown(inspect_model(wrapper))}


def test_a_missing_folder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect_model(tmp_path / "gone")


def test_safetensors_headers_are_parsed_like_the_library_does(pipeline: Path) -> None:
    file = pipeline / "model" / "model-00001-of-00001.safetensors"
    file.write_bytes(SAFETENSORS + b"\0" * 100)
    assert inspect_model(pipeline).level == "data_only"
    file.write_bytes((50).to_bytes(8, "little") + b"{}")
    assert inspect_model(pipeline).level == "code"


def test_an_index_may_refer_only_to_existing_shards(pipeline: Path) -> None:
    write_json(pipeline / "model" / "model.safetensors.index.json", {"weight_map": {"a": "none.safetensors"}})

    assert json.loads((pipeline / "model" / "model.safetensors.index.json").read_text())
    assert inspect_model(pipeline).level == "code"
