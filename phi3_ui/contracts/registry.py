"""Every kind of logged model that can be chatted with. A new one is a file like its neighbours', and one line here."""

from phi3_ui.contracts.base import Contract
from phi3_ui.contracts.chat_agent import ChatAgentContract
from phi3_ui.contracts.chat_model import ChatModelContract
from phi3_ui.contracts.completions import CompletionsContract
from phi3_ui.contracts.declaration import ModelDeclaration
from phi3_ui.contracts.onnx_prompt import OnnxPromptContract
from phi3_ui.contracts.pipeline_chat import PipelineChatContract
from phi3_ui.contracts.responses_agent import ResponsesAgentContract

CONTRACTS: tuple[type[Contract], ...] = (
    PipelineChatContract,
    CompletionsContract,
    ChatModelContract,
    ChatAgentContract,
    ResponsesAgentContract,
    OnnxPromptContract,
)


def find_contract(declared: ModelDeclaration) -> type[Contract] | None:
    """The first contract that a model's declaration fits; None: it is no chat model."""
    return next((contract for contract in CONTRACTS if contract.matches(declared)), None)


def get_contract(name: str) -> type[Contract]:
    """KeyError if there is none of this name."""
    return {contract.name: contract for contract in CONTRACTS}[name]
