"""Save chats as files, and import them."""

import gradio as gr

from phi3_ui.ui.handlers.export import ExportController
from phi3_ui.ui.page.components import ExportSection, Page
from phi3_ui.ui.page.scripts import DOWNLOAD_JS
from phi3_ui.ui.page.texts import I18N


def create() -> ExportSection:
    """Create the accordion with the export buttons and the upload."""
    t = I18N
    with gr.Accordion(t("share"), open=False, elem_id="phi3-share"):
        as_markdown = gr.Button(t("share.markdown"), size="sm")
        as_json = gr.Button(t("share.json"), size="sm")
        all_chats = gr.Button(t("share.all"), size="sm")
        upload = gr.UploadButton(
            t("share.import"),  # type: ignore[arg-type]  # declared as str, but translated like all labels
            file_types=[".json", ".jsonl", ".zip"],
            size="sm",
            elem_id="phi3-import",
        )
    # Outside the accordion: a closed one does not run the scripts of its components.
    download = gr.HTML(html_template="", visible="hidden", js_on_load=DOWNLOAD_JS)
    return ExportSection(as_markdown, as_json, all_chats, upload, download)


def wire(page: Page, export: ExportController) -> None:
    """Connect the downloads and the upload."""
    section = page.export
    for button, handler in (
        (section.as_markdown, export.as_markdown),
        (section.as_json, export.as_json),
        (section.all_chats, export.all),
    ):
        button.click(handler, None, section.download, show_progress="minimal", api_visibility="private")
    section.upload.upload(
        export.read,
        section.upload,
        [section.upload, section.download, *page.chat_outputs],
        show_progress="minimal",
        api_visibility="private",
    )
