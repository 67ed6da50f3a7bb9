"""All contracts: the project's own, and those that other code registers.

To add a contract to the project, write a module next to this one and add an instance to CONTRACTS. Code that uses the project
as a library calls `register_contract` before it opens a catalogue:

    # my_contract.py
    class MyContract(Contract): ...
    register_contract(MyContract())

Each model runs in its own process, which imports the module that defines its contract. A registered contract's class must
therefore be in a module that a new interpreter can import (not `__main__`), and importing that module must define it.
"""

import importlib
import threading

from phi3_ui.contracts.base import Contract
from phi3_ui.contracts.chat_agent import ChatAgentContract
from phi3_ui.contracts.chat_model import ChatModelContract
from phi3_ui.contracts.completions import CompletionsContract
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.pipeline_chat import PipelineChatContract
from phi3_ui.contracts.responses_agent import ResponsesAgentContract
from phi3_ui.contracts.text_model import TextModelContract

CONTRACTS: tuple[Contract, ...] = (
    PipelineChatContract(),
    CompletionsContract(),
    ChatModelContract(),
    ChatAgentContract(),
    ResponsesAgentContract(),
    OnnxPromptContract(),
    TextModelContract(),
)
"""The project's own contracts, in the order in which they are tried."""

_lock = threading.Lock()
_registered: tuple[Contract, ...] = ()


def register_contract(contract: Contract) -> None:
    """Add a contract that is tried before the project's own, replacing one with the same name and class.

    Raises ValueError if its name is taken, its class cannot be imported in another process, or its program template does not
    exist.
    """
    global _registered
    kind = type(contract)
    if kind.__module__ == "__main__" or kind.__qualname__ != kind.__name__:
        raise ValueError(f"{kind.__qualname__} must be defined at the top level of a module that can be imported")
    if not contract.program_template.is_file():
        raise ValueError(f"{kind.__name__}.program_template is not a file: {contract.program_template}")
    with _lock:
        others = tuple(other for other in _registered if import_path(other) != import_path(contract))
        if contract.name in {other.name for other in (*others, *CONTRACTS)}:
            raise ValueError(f"there is already a contract called {contract.name}")
        _registered = (contract, *others)


def all_contracts() -> tuple[Contract, ...]:
    """Return every contract, in the order in which they are tried. Thread-safe."""
    return (*_registered, *CONTRACTS)


def find_contract(declaration: ModelDeclaration) -> Contract | None:
    """Return the first contract that matches a model's declaration; None: it is not a chat model."""
    return next((contract for contract in all_contracts() if contract.matches(declaration)), None)


def get_contract(name: str) -> Contract:
    """Return the contract with this name. Raises KeyError."""
    return {contract.name: contract for contract in all_contracts()}[name]


def import_path(contract: Contract) -> str:
    """Return `module:Class` of a contract, from which `import_contract` creates it in another process."""
    return f"{type(contract).__module__}:{type(contract).__name__}"


def import_contract(path: str) -> Contract:
    """Return an instance of the contract class at `module:Class`. Raises ImportError, AttributeError or TypeError."""
    module, _, name = path.partition(":")
    contract = getattr(importlib.import_module(module), name)()
    if not isinstance(contract, Contract):
        raise TypeError(f"{path} is not a Contract")
    return contract
