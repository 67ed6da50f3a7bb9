"""The list of contracts, and a third-party contract: one registration makes it work everywhere."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from phi3_ui.chat.conversation import Answer, Conversation, TurnRequest
from phi3_ui.chat.types import CancelToken, ChatRequest, Completed, GenerationParams, TextDelta
from phi3_ui.contracts import registry
from phi3_ui.contracts.registry import CONTRACTS, all_contracts, get_contract, register_contract
from phi3_ui.export.reproduce import render_program
from phi3_ui.host.hosted_model import HostedModel
from phi3_ui.host.protocol import ModelSpec
from phi3_ui.store.registry.catalogue import Catalogue
from phi3_ui.store.registry.doctor import diagnose
from tests.contracts.persona_contract import PersonaContract
from tests.support.build_cache import create_store
from tests.support.trust import approve_models

pytestmark = pytest.mark.filterwarnings("ignore:.*:UserWarning")  # MLflow's advice on logging a model

SIGNATURE = ModelSignature(
    Schema([ColSpec(DataType.string, "persona"), ColSpec(DataType.string, "question")]),
    Schema([ColSpec(DataType.string)]),
    ParamSchema([ParamSpec("max_tokens", DataType.long, 100)]),
)
PARAMS = GenerationParams(max_tokens=7, stop=("never",))


@pytest.fixture
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the test's registrations afterwards."""
    monkeypatch.setattr(registry, "_registered", ())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with one model, which only PersonaContract matches."""
    folder = tmp_path_factory.mktemp("store")
    uri = create_store(folder, "theirs")
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("theirs")
    code = str(Path(__file__).with_name("persona_model.py"))
    mlflow.pyfunc.log_model(name="persona-model", python_model=code, signature=SIGNATURE, pip_requirements=["pandas"])
    return uri


@pytest.fixture
def hosted(tmp_path: Path, store: str, unregistered: None) -> Iterator[HostedModel]:
    """The model in its process, opened from its list entry."""
    register_contract(PersonaContract())
    (entry,) = Catalogue(store).list_models()
    spec = ModelSpec(entry.model_id, entry.name, entry.uri, entry.contract, entry.tracking_uri, folder=entry.folder)
    model = HostedModel(spec, tmp_path / "logs", approve_models(store, tmp_path).admit)
    yield model
    model.unload()


def run_program(program: str, folder: Path) -> str:
    """Return the output of a program run in an empty folder by a Python that cannot import this project."""
    file = folder / "program.py"
    file.write_text(program, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-P", file.name]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.server
def test_a_registered_contract_works_from_listing_to_reproduce(store: str, tmp_path: Path, hosted: HostedModel) -> None:
    catalogue = Catalogue(store, tmp_path / "cache")
    (entry,) = catalogue.list_models()
    assert (entry.name, entry.contract, entry.supported_params) == ("persona-model", "persona", ("max_tokens", "stop"))
    assert not entry.requires_template

    asked = TurnRequest(time.time(), entry.model_id, "A fox", PARAMS)
    conversation = Conversation().with_question('What does the "fox" say to {you} and me?', asked)
    *deltas, end = hosted.answer(ChatRequest(conversation.build_messages("A fox"), PARAMS), CancelToken())
    assert isinstance(end, Completed)
    assert end.text == 'A fox says: What does the "fox"'
    assert "".join(event.text for event in deltas if isinstance(event, TextDelta)) == end.text
    assert hosted.ready.result() == "stream"

    conversation = conversation.with_answer(Answer(entry.name, end.text, end.usage, finish_reason=end.finish_reason))
    assert conversation.leaf
    program = render_program(conversation, conversation.leaf, catalogue.load_declaration(entry), entry.tracking_uri)
    assert f"pandas {pd.__version__}" in program
    (empty := tmp_path / "empty").mkdir()
    assert run_program(program, empty) == f"{end.text}\n"

    diagnosis = diagnose(store, entry.model_id)
    assert (diagnosis.severity, diagnosis.can_relog) == ("ok", False), diagnosis.findings


@pytest.mark.usefixtures("unregistered")
def test_a_model_is_listed_once_its_contract_is_registered(store: str, tmp_path: Path) -> None:
    assert Catalogue(store, tmp_path / "cache").list_models() == []
    register_contract(PersonaContract())
    assert [entry.contract for entry in Catalogue(store, tmp_path / "cache").list_models()] == ["persona"]


@pytest.mark.usefixtures("unregistered")
def test_a_registered_contract_is_tried_first_and_replaces_itself() -> None:
    register_contract(PersonaContract())
    register_contract(again := PersonaContract())
    assert all_contracts() == (again, *CONTRACTS)
    assert get_contract("persona") is again


def _contract(name: str, module: str, template: Path = PersonaContract.program_template) -> PersonaContract:
    kind = type("Other", (PersonaContract,), {"name": name, "__module__": module, "program_template": template})
    contract = kind()
    assert isinstance(contract, PersonaContract)
    return contract


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize(
    ("contract", "message"),
    [
        (_contract("chat", "tests.contracts.other"), "already a contract called chat"),
        (_contract("other", "__main__"), "a module that can be imported"),
        (_contract("other", "tests.contracts.other", Path("/nowhere/x.jinja")), "is not a file"),
    ],
    ids=["name taken", "in __main__", "no template"],
)
def test_a_contract_that_could_not_work_is_refused(contract: PersonaContract, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_contract(contract)
    assert all_contracts() == CONTRACTS


def test_every_contract_has_a_name_and_a_template_of_its_own() -> None:
    assert len({contract.name for contract in CONTRACTS}) == len(CONTRACTS)
    assert len({contract.program_template for contract in CONTRACTS}) == len(CONTRACTS)
    assert all(contract.program_template.is_file() for contract in CONTRACTS)
