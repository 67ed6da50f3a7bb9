"""Every kind of logged model that can be chatted with. A new one is a file like its neighbours', and one line here."""

from phi3_ui.chat.chat_agent_contract import ChatAgentContract
from phi3_ui.chat.chat_contract import ChatContract
from phi3_ui.chat.chat_model import Contract
from phi3_ui.chat.chat_model_contract import ChatModelContract
from phi3_ui.chat.completions_contract import CompletionsContract
from phi3_ui.chat.declared import Declared
from phi3_ui.chat.prompt_contract import PromptContract
from phi3_ui.chat.responses_contract import ResponsesContract

CONTRACTS: tuple[type[Contract], ...] = (
    ChatContract,
    CompletionsContract,
    ChatModelContract,
    ChatAgentContract,
    ResponsesContract,
    PromptContract,
)


def contract_of(declared: Declared) -> type[Contract] | None:
    """The first contract that a model's declaration fits; None: it is no chat model."""
    return next((contract for contract in CONTRACTS if contract.matches(declared)), None)


def contract_named(name: str) -> type[Contract]:
    """KeyError if there is none of this name."""
    return {contract.name: contract for contract in CONTRACTS}[name]
