"""The scripts of static/ in the forms that Gradio accepts. Each file is a module with one default-exported function.

Those of static/chat/ import one another and the libraries in vendor/, so the browser loads them from ui/assets.py.
"""

import json
from pathlib import Path

from phi3_ui.ui.asset_urls import ICONS_URL, STATIC_URL

_STATIC = Path(__file__).parents[1] / "static"


def _load_function(file: str) -> str:
    """Return a file's default-exported function as an expression."""
    _, _, function = (_STATIC / file).read_text(encoding="utf-8").partition("export default ")
    if not function:
        raise ValueError(f"{file} has no default export")
    return f"({function.rstrip()})"


# For `js=` of an event: an expression.
CLOSE_DRAWERS_JS = "() => globalThis.phi3Panels?.closeDrawers()"
OPEN_ADD_MODEL_JS = "() => globalThis.phi3AddModel?.open(document.activeElement)"
GUARD_INPUT_JS = _load_function("guard_input.js")
KEEP_STREAM_JS = _load_function("keep_stream.js")
_TAKER_JS = f"{_load_function('take_message.js')}()"
TAKE_MESSAGE_JS = f"(...values) => {_TAKER_JS}.take(...values)"
SETTLE_MESSAGE_JS = f"(text) => {{ globalThis.phi3Composer?.setText(text); {_TAKER_JS}.settle(); }}"
RELEASE_MESSAGE_JS = f"() => {_TAKER_JS}.release()"
COMPOSE_DRAFT_JS = "(text, ...others) => [globalThis.phi3Composer?.compose(text) ?? text, ...others]"
SET_DIRECTIONS_JS = _load_function("directions.js")
READ_BROWSER_JS = f"() => [{_load_function('visitor_token.js')}(), {_load_function('tab_state.js')}()]"
"""Returns the visitor's token and the tab's state."""

# For `js_on_load` of an HTML component: statements, with Gradio's variables in scope.
ACTIONS_JS = f"{_load_function('actions.js')}(trigger);"
CLOSE_WARNING_JS = f"{_load_function('close_warning.js')}(element);"
KEEP_FOLDS_JS = f"{_load_function('keep_folds.js')}(element, watch);"
KEEP_SCROLL_JS = f"{_load_function('keep_scroll.js')}(element, watch);"
_MODULE_JS = """
const texts = TEXTS[navigator.language.split("-")[0]] ?? TEXTS.en;
import(new URL("STATIC/MODULE", document.baseURI)).then(
  (module) => module.default({ element, props, watch, trigger, texts, data: DATA }),
  (error) => console.error(error),
);
""".replace("STATIC", STATIC_URL)
_CHAT_JS = """
const texts = TEXTS[navigator.language.split("-")[0]] ?? TEXTS.en;
const starters = STARTERS[navigator.language.split("-")[0]] ?? STARTERS.en;
import(new URL("STATIC/chat/view.js", document.baseURI)).then(
  (view) => globalThis.phi3DrawRunning = view.default(element, props, watch, texts, starters),
  (error) => {
    console.error(error);
    element.textContent = texts.chat_not_loaded;
  },
);
""".replace("STATIC", STATIC_URL)
REPLAY_JS = """
import(new URL("STATIC/chat/replay.js", document.baseURI)).then(
  (view) => view.default(element, props, watch),
  (error) => console.error("The comparison cannot be shown:", error),
);
""".replace("STATIC", STATIC_URL)
# The chat's script sets the function and reads the value, which may arrive before it or while a chat is drawn.
RUNNING_JS = """
watch("value", () => {
  globalThis.phi3Running = props.value;
  globalThis.phi3DrawRunning?.();
});
"""
MARK_SETUP_JS = f"{_load_function('setup_view.js')}(element, watch);"
DOWNLOAD_JS = f"{_load_function('download.js')}(watch, props);"


def module_js(path: str, texts: dict[str, dict[str, str]], data: object = None) -> str:
    """Return a script that draws a component with a module of static/, given its texts by language and key, and constant data."""
    script = _MODULE_JS.replace("MODULE", path).replace("TEXTS", json.dumps(texts))
    return script.replace("DATA", json.dumps(data))


def chat_js(texts: dict[str, dict[str, str]], starters: dict[str, list[dict[str, str]]]) -> str:
    """Return a script that draws the chat, given its texts by language and key, and an empty chat's buttons by language.

    They are part of the script: on a page that loads slowly, the component has no property but its value when it is created.
    """
    return _CHAT_JS.replace("TEXTS", json.dumps(texts)).replace("STARTERS", json.dumps(starters))


def view_js(name: str) -> str:
    """Return the script of a view that covers the chat."""
    return f"{_load_function('manage_view.js')}({json.dumps(name)}, element, props, watch);"


def _with_texts(texts: dict[str, dict[str, str]], statement: str) -> str:
    """Return a script with `texts` in the browser's language, given texts by language and key."""
    return f"""
const texts = ((all) => all[navigator.language.split("-")[0]] ?? all.en)({json.dumps(texts)});
{statement};
"""


def new_chat_js(texts: dict[str, dict[str, str]]) -> str:
    """Return the script of the button that starts a chat; `texts` by language, with the key new_chat."""
    return _with_texts(texts, f"{_load_function('new_chat.js')}(element, trigger, texts.new_chat)")


def translate_toasts_js(texts: dict[str, dict[str, str]]) -> str:
    """Return a script for `js=` of the page's load event; `texts` by language and key."""
    script = _with_texts(texts, f"{_load_function('translate_toasts.js')}(texts)")
    return f"() => {{{script}}}"


def conversations_js(texts: dict[str, dict[str, str]]) -> str:
    """Return the script of the chat list and the menus; `texts` by language and key."""
    menus = f"{_load_function('menus.js')}({_load_function('preferences.js')}(), texts, {json.dumps(ICONS_URL)})"
    return _with_texts(texts, f"{menus};\n{_load_function('conversations.js')}(trigger, texts)")


def panels_js(labels: dict[str, dict[str, str]]) -> str:
    """Return a script that opens and closes the panels; `labels` by language, with the keys panel.left and panel.right."""
    return f"""
const labels = ((all) => all[navigator.language.split("-")[0]] ?? all.en)({json.dumps(labels)});
{_load_function("panels.js")}({{ left: labels["panel.left"], right: labels["panel.right"] }});
"""


def tabs_js(labels: dict[str, dict[str, str]]) -> str:
    """Return a script that switches the tabs; `labels` by language, with the keys tab.usage, tab.model and tab.settings."""
    return f"""
const labels = ((all) => all[navigator.language.split("-")[0]] ?? all.en)({json.dumps(labels)});
{_load_function("tabs.js")}(element, labels);
"""


def record_settings_js(names: list[str]) -> str:
    """Return a script that keeps the settings, passed in the order of `names`, for tab_state.js to save."""
    return f"(...values) => {_load_function('record_settings.js')}({json.dumps(names)}, values)"
