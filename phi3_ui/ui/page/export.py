"""Save chats as files, and import them. Both are started from the menus of the conversations."""

import gradio as gr
from gradio.events import Dependency

from phi3_ui.settings import Settings
from phi3_ui.ui.handlers.imports import ImportController
from phi3_ui.ui.page.components import ExportSection, Page
from phi3_ui.ui.page.events import QUIET
from phi3_ui.ui.page.scripts import DOWNLOAD_JS, module_js
from phi3_ui.ui.page.texts import browser_texts

_PROGRESS_SECONDS = 0.5
_TEXTS = [
    *("import.running", "import.sending", "import.not_sent", "import.reasons"),
    *("error.request_too_large", "error.import_running", "cancel", "close"),
]


def create(settings: Settings) -> ExportSection:
    """Create the panel that shows an import, and the hidden components."""
    progress = gr.HTML(
        None,
        html_template="",
        js_on_load=module_js("import.js", browser_texts(_TEXTS), {"megabytes": settings.max_import_mb}),
        apply_default_css=False,
        padding=False,
        elem_id="phi3-import",
    )
    download = gr.HTML(html_template="", visible="hidden", js_on_load=DOWNLOAD_JS)
    return ExportSection(download, progress, gr.Timer(_PROGRESS_SECONDS, active=False))


def wire(page: Page, imports: ImportController, resumed: Dependency) -> None:
    """Show the import of the page's user, even one that continued while the page was reloaded."""
    section = page.export
    outputs = [section.progress, section.ticker, *page.chat_outputs]
    section.progress.input(imports.begin, None, outputs, **QUIET)
    section.progress.click(imports.act, None, outputs, **QUIET)
    section.ticker.tick(imports.tick, None, outputs, **QUIET)
    resumed.then(imports.tick, None, outputs, **QUIET)
