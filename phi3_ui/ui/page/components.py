"""Records of the page's components, one per section. Handlers return updates keyed by these components."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

Updates = dict[Any, Any]
"""Component → its new value or properties."""


@dataclass(frozen=True)
class SetupSection:
    """Shown instead of the chat until the first run has filled the store."""

    view: gr.Column
    panel: gr.HTML
    retry: gr.Button
    ticker: gr.Timer


@dataclass(frozen=True)
class ConversationsSection:
    """The chat list."""

    new_chat: gr.HTML
    search: gr.Textbox
    chat_list: gr.HTML
    footer: gr.HTML


@dataclass(frozen=True)
class ExportSection:
    """Export and import of chats, started from the menus."""

    download: gr.HTML
    """Hidden; its script saves the file in its value."""
    progress: gr.HTML
    """Progress of an import, as data for static/import.js, which also sends the file."""
    ticker: gr.Timer


@dataclass(frozen=True)
class ChatSection:
    """The conversation and the lines below it."""

    messages: gr.HTML
    """The messages as data, which static/chat/ draws."""
    running: gr.HTML
    """The answer in progress as data. Hidden. A separate component, so that the other messages are not sent and drawn again while it grows."""
    warning: gr.HTML
    """Why chats are not being recorded."""
    comment_group: gr.Group
    comment: gr.Textbox
    keep_comment: gr.Button


@dataclass(frozen=True)
class ComposerSection:
    """The composer below the chat."""

    message: gr.Textbox
    tools: gr.HTML
    """The tools below the text, drawn by static/composer/ from the composer's state as data."""
    context: gr.HTML
    """The context meter."""
    send: gr.Button
    stop: gr.Button
    hint: gr.HTML
    """What users should know about the selected model."""


@dataclass(frozen=True)
class ReplaySection:
    """A comparison that covers the chat until it is closed."""

    head: gr.HTML
    """Title and Close; the view is open while it is not empty."""
    model: gr.Dropdown
    start: gr.Button
    stop: gr.Button
    note: gr.HTML
    comparison: gr.HTML
    """The comparison as data, which static/chat/replay.js draws."""

    @property
    def outputs(self) -> list[Any]:
        """The components that show a replay."""
        return [self.head, self.model, self.note, self.comparison]


@dataclass(frozen=True)
class CompareSection:
    """The comparison of models, which covers the chat until it is closed."""

    view: gr.HTML
    """The comparison as data, which static/compare/ draws: a ComparisonView as JSON; closed while it is empty."""
    meter: gr.HTML
    """Hidden; static/compare/view.js shows it in the composer."""


@dataclass(frozen=True)
class RatingsSection:
    """The leaderboard of the votes, which covers the chat or the comparison."""

    view: gr.HTML
    """Closed while it is empty."""


@dataclass(frozen=True)
class EvaluationsSection:
    """Prompt sets and evaluations, in a view that covers the others."""

    view: gr.HTML
    """Closed while it is empty."""


@dataclass(frozen=True)
class HeaderSection:
    """The header above the chat."""

    picker: gr.Textbox
    """Hidden: the selected model's id, or `name@alias`. The model menu sets it, and handlers read it."""
    line: gr.HTML
    menu: gr.HTML
    refresh: gr.Button
    actions: gr.HTML
    """Clicked to save the shown chat."""


@dataclass(frozen=True)
class StatusSection:
    """Whether the selected model is loaded."""

    line: gr.HTML
    """The model button above the chat, with its chips, as data for static/models/button.js."""
    menu: gr.HTML
    """The models to pick from, as data for static/models/menu.js."""
    cache: gr.HTML
    refresh: gr.Button
    """Hidden; clicked by the menu."""
    unload: gr.Button


@dataclass(frozen=True)
class CardSection:
    """What the store knows about the selected model."""

    panel: gr.HTML
    relog: gr.Button
    forget: gr.Button
    """Forgets the remote server of a model that was added on the page."""
    approve: gr.Button
    """Hidden; clicked by the card's button."""


@dataclass(frozen=True)
class UsageSection:
    """Token usage of the shown chat, and of all the user's chats."""

    panel: gr.HTML
    overview: gr.HTML
    """A view that covers the chat while it is not empty."""


@dataclass(frozen=True)
class SettingsSection:
    """What is sent with a question besides its text."""

    template: gr.Dropdown
    presets: gr.HTML
    """The presets of the parameters, drawn by static/settings/; clicked with the values to set."""
    system: gr.Textbox
    controls: Mapping[str, Any]
    """By name of the GenerationParams field that each sets."""


@dataclass(frozen=True)
class AddModelSection:
    """The form that logs a model into the store, and its progress."""

    form: dict[str, Any]
    """The fields by name: the preset, and what recipe_from_arguments needs for the user's own weights."""
    add: gr.Button
    cancel: gr.Button
    progress: gr.HTML
    ticker: gr.Timer


@dataclass(frozen=True)
class RegistrySection:
    """Promotion of a version to an alias, with its confirmation."""

    alias: gr.Radio
    ask: gr.Button
    question: gr.HTML
    confirmation: gr.Group
    confirm: gr.Button
    refuse: gr.Button


@dataclass(frozen=True)
class BrowserSection:
    """Hidden components through which the browser talks to the server."""

    visitor_token: gr.Textbox
    """The browser's secret, which identifies a visitor without a login."""
    tab_state: gr.JSON
    """What the tab held before it was reloaded."""
    actions: gr.HTML
    """Clicked for every action button in a message or the chat list."""
    status_ticker: gr.Timer


@dataclass(frozen=True)
class EndpointSection:
    """Hidden components of the public endpoint, which programs call."""

    trigger: gr.Button
    messages: gr.JSON


@dataclass(frozen=True)
class Page:
    """All sections."""

    setup: SetupSection
    chat_view: gr.Column
    conversations: ConversationsSection
    export: ExportSection
    header: HeaderSection
    chat: ChatSection
    composer: ComposerSection
    replay: ReplaySection
    compare: CompareSection
    ratings: RatingsSection
    evaluations: EvaluationsSection
    status: StatusSection
    program: gr.HTML
    """The program that reproduces an answer, and the dialog that shows it: a dict of `program` and `at`."""
    usage: UsageSection
    settings: SettingsSection
    card: CardSection
    registry: RegistrySection
    add_model: AddModelSection
    browser: BrowserSection
    endpoint: EndpointSection

    @property
    def picker(self) -> gr.Textbox:
        """The selected model's key, as an input of events."""
        return self.header.picker

    # Outputs of several events

    @property
    def status_outputs(self) -> list[Any]:
        """Components that show the state of the selected model."""
        return [self.status.line, self.status.cache, self.status.unload]

    @property
    def menu_outputs(self) -> list[Any]:
        """Components that show the models to pick from and the selected one."""
        return [self.picker, self.status.menu, self.status.line]

    @property
    def card_outputs(self) -> list[Any]:
        """Components that depend on the selected model."""
        return [
            *(self.card.panel, self.card.relog, self.card.forget, self.composer.hint),
            *(self.settings.template, *self.settings.controls.values()),
        ]

    @property
    def chat_outputs(self) -> list[Any]:
        """Components that depend on the shown chat."""
        chat = self.chat
        return [
            *(chat.messages, chat.running, chat.warning, chat.comment_group),
            *(
                self.usage.panel,
                self.conversations.chat_list,
                self.conversations.footer,
                self.composer.tools,
                self.composer.context,
            ),
            *(self.usage.overview, self.compare.view, self.ratings.view, self.evaluations.view),
            *self.replay.outputs,
        ]

    @property
    def settings_inputs(self) -> dict[str, Any]:
        """The settings of a question, by name: the system prompt and the sampling parameters."""
        return {"system": self.settings.system, **self.settings.controls}
