"""Session and application names: all turns of a chat share a session, whatever their content."""

from hypothesis import given
from hypothesis import strategies as st

from deploy.ray.names import find_model_id, find_session, name_application
from phi3_ui.chat.types import ChatRequest, Message

texts = st.text()


@given(texts, texts, st.lists(texts))
def test_all_turns_of_a_chat_have_its_session(system: str, first: str, later: list[str]) -> None:
    beginning = (Message("system", system), Message("user", first))
    turns = [Message("user" if number % 2 else "assistant", text) for number, text in enumerate(later)]

    assert find_session(ChatRequest((*beginning, *turns))) == find_session(ChatRequest(beginning))


@given(texts, texts)
def test_chats_with_different_first_messages_have_different_sessions(one: str, other: str) -> None:
    sessions = {find_session(ChatRequest((Message("user", text),))) for text in (one, other)}
    assert len(sessions) == len({one, other})


def test_an_extended_prompt_keeps_its_session() -> None:
    prompt = "<|user|>\n" + "word " * 100
    sessions = {find_session(ChatRequest((), raw_prompt=text)) for text in (prompt, prompt + "more", "another")}
    assert len(sessions) == 2


@given(texts)
def test_the_model_id_is_recovered_from_the_application_name(model_id: str) -> None:
    application = name_application(model_id)
    assert "/" not in application
    assert find_model_id(application) == model_id
    assert find_model_id("phi3-chat") == ""
