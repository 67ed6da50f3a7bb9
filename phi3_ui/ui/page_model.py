"""A page's selected model, and what the page keeps about models: templates and disabled controls."""

import threading
from dataclasses import replace

from phi3_ui.errors import UserError
from phi3_ui.store.registry.cards import ModelEntry, RegisteredVersion
from phi3_ui.ui.session_values import ModelSelection

_MAX_KEY = 1000  # characters; a page keeps what the browser sends


class PageModel:
    """The selection changes at once, and its entry is found a moment later. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._selection = ModelSelection()
        self._templates: dict[str, str] = {}
        self._unsupported_controls: frozenset[str] = frozenset()

    @property
    def selection(self) -> ModelSelection:
        """A snapshot of the model picker, for callers that need several of its values."""
        return self._selection

    @property
    def key(self) -> str | None:
        """The selected key: a model id, or `name@alias`."""
        return self._selection.key

    @property
    def entry(self) -> ModelEntry | None:
        """The selected model, once found."""
        return self._selection.entry

    @property
    def id(self) -> str | None:
        """Id of the selected model, once found."""
        entry = self._selection.entry
        return entry.model_id if entry else None

    @property
    def error(self) -> UserError | None:
        """Why the selected model was not found or cannot be loaded."""
        return self._selection.error

    def select(self, key: str | None) -> None:
        """Select another model; its entry is set by `set_entry` once found. A key that is too long selects none."""
        with self._lock:
            self._selection = ModelSelection(key if key and len(key) <= _MAX_KEY else None)

    def ensure(self, keys: list[str], default: str | None) -> str | None:
        """Keep the selected key if it is among `keys`, otherwise select `default`. Return the selected key."""
        with self._lock:
            if self._selection.key not in keys:
                self._selection = ModelSelection(default)
            return self._selection.key

    def set_entry(self, key: str | None, entry: ModelEntry, versions: tuple[RegisteredVersion, ...] = ()) -> bool:
        """Set the entry of the selected key with its versions; return False if another one was selected in the meantime."""
        with self._lock:
            if self._selection.key != key:
                return False
            self._selection = ModelSelection(key, entry, versions)
            return True

    def set_error(self, key: str | None, error: UserError) -> None:
        """Keep why the model of this key cannot be used, unless another one was selected in the meantime."""
        with self._lock:
            if self._selection.key == key:
                self._selection = replace(self._selection, error=error)

    def get_template(self, entry: ModelEntry) -> str | None:
        """Return the prompt template picked on this page for a model, else the model's own."""
        return self._templates.get(entry.model_id) or entry.template

    def set_template(self, model_id: str, key: str) -> None:
        """Pick the prompt template of a model, for this page."""
        with self._lock:
            self._templates = {**self._templates, model_id: key}

    def take_templates(self, other: "PageModel") -> None:
        """Take over the templates picked on the page that this one replaces."""
        with self._lock:
            self._templates = other._templates

    def update_unsupported_controls(self, names: frozenset[str]) -> frozenset[str]:
        """Set which controls are disabled; return the names of those that changed."""
        with self._lock:
            changed, self._unsupported_controls = names ^ self._unsupported_controls, names
            return changed
