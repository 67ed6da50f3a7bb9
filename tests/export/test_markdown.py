"""Chats as Markdown: no text breaks it, and it lists the metrics of each answer."""

from hypothesis import given
from markdown_it import MarkdownIt

from phi3_ui.chat.conversation import Answer, Conversation
from phi3_ui.export.archive import to_markdown
from tests.support.conversations import conversations, make_conversation, texts


@given(conversations(), texts.filter(lambda text: "\0" not in text))
def test_no_text_adds_a_heading_or_html_to_the_markdown(conversation: Conversation, title: str) -> None:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(to_markdown(conversation, title))

    headings = [tag for turn in conversation.turns for tag in (["h2", "h3"] if turn.answer else ["h2"])]
    assert [token.tag for token in tokens if token.type == "heading_open" and token.level == 0] == ["h1", *headings]
    assert "".join(part.content for part in tokens[1].children or []) == (" ".join(title.split()) or "Chat")
    kinds = {inner.type for token in tokens for inner in [token, *(token.children or [])]}
    assert not kinds & {"html_block", "html_inline"}


@given(texts.filter(lambda text: text.strip() and "\0" not in text))
def test_a_markdown_renderer_shows_a_question_as_typed(question: str) -> None:
    tokens = MarkdownIt("commonmark").parse(to_markdown(Conversation().with_question(question), "Chat"))

    [shown] = [token.content for token in tokens if token.type == "fence"]
    assert shown == question.replace("\r\n", "\n").replace("\r", "\n") + "\n"


def test_markdown_lists_the_metrics_of_an_answer() -> None:
    assert to_markdown(make_conversation(), "Say *one*") == (
        "# Say \\*one\\*\n\n## Question 1\n\n```\nuno\n```\n\n### Answer 1, phi\n\n> I\n\n"
        "- Tokens: 37 prompt (12 cached), 5 completion\n"
        "- Time to first token: 0.10 s\n- Speed: 98.1 tokens/s\n- Ended: cut at the token limit\n"
        "- Feedback: bad, “too short”\n\n## Question 2\n\n```\ntwo\n```\n\n- Not answered\n"
    )


def test_markdown_contains_texts_unchanged() -> None:
    conversation = Conversation().with_question("# a\r\n\r\n```py").with_answer(Answer("", "```html\n<b>\n````"))

    shown = to_markdown(conversation, "")

    assert "\n````\n# a\n\n```py\n````\n\n### Answer 1\n" in shown
    assert "\n`````\n```html\n<b>\n````\n`````\n" in shown
