"""Save chats as files, and import them. The menus of the conversations start both."""

import gradio as gr

from phi3_ui.ui.handlers.export import ExportController
from phi3_ui.ui.page.components import ExportSection, Page
from phi3_ui.ui.page.scripts import DOWNLOAD_JS
from phi3_ui.ui.page.texts import I18N


def create() -> ExportSection:
    """Create the hidden components."""
    upload = gr.UploadButton(
        I18N("share.import"),  # type: ignore[arg-type]  # declared as str, but translated like all labels
        file_types=[".json", ".jsonl", ".zip"],
        elem_id="phi3-import",
    )
    download = gr.HTML(html_template="", visible="hidden", js_on_load=DOWNLOAD_JS)
    return ExportSection(upload, download)


def wire(page: Page, export: ExportController) -> None:
    """Connect the downloads and the upload."""
    section = page.export
    section.upload.upload(
        export.read,
        section.upload,
        [section.upload, *page.chat_outputs],
        show_progress="hidden",
        show_progress_on=[],
        api_visibility="private",
    )
