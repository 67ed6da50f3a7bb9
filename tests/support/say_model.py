"""A third-party ChatModel that repeats the last message, as users logged with MLflow 2."""

from typing import Any

import mlflow
from mlflow.pyfunc.model import ChatModel
from mlflow.types.llm import ChatChoice, ChatCompletionResponse, ChatMessage, ChatParams


class Say(ChatModel):
    def predict(  # type: ignore[override]  # as MLflow documents it
        self, context: Any, messages: list[ChatMessage], params: ChatParams
    ) -> ChatCompletionResponse:
        answer = ChatMessage(role="assistant", content=f"You said: {messages[-1].content}")
        return ChatCompletionResponse(choices=[ChatChoice(index=0, message=answer)])


mlflow.models.set_model(Say())
