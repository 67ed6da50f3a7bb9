"""The page's theme and style sheet: one accent, system fonts, light and dark."""

from pathlib import Path

import gradio as gr

_STATIC = Path(__file__).parents[1] / "static"

_SHEETS = (
    *(
        "tokens.css",
        "shell.css",
        "page.css",
        "conversations.css",
        "setup.css",
        "models.css",
        "usage.css",
        "replay.css",
        "compare/compare.css",
        "ratings.css",
        "evaluations.css",
        "composer.css",
        "menus.css",
        "settings.css",
    ),
    *("chat/chat.css", "chat/text.css", "chat/code.css", "chat/captions.css"),
    "needs.css",  # last: it overrides the others
)
CSS = "\n".join((_STATIC / name).read_text(encoding="utf-8") for name in _SHEETS)

_SYSTEM_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_SYSTEM_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


# The tokens of static/tokens.css handle dark mode themselves.
_COLORS = {
    "body_background_fill": "var(--bg)",
    "background_fill_primary": "var(--bg)",
    "background_fill_secondary": "var(--bg-soft)",
    "body_text_color": "var(--ink)",
    "body_text_color_subdued": "var(--ink-3)",
    "border_color_primary": "var(--line)",
    "border_color_accent": "var(--accent)",
    "color_accent_soft": "var(--accent-soft)",
    "link_text_color": "var(--accent)",
    "link_text_color_hover": "var(--accent)",
    "link_text_color_active": "var(--accent)",
    "link_text_color_visited": "var(--accent)",
    "block_background_fill": "transparent",
    "block_border_width": "0px",
    "block_shadow": "none",
    "block_title_text_color": "var(--ink-2)",
    "block_label_text_color": "var(--ink-2)",
    "block_info_text_color": "var(--ink-3)",
    "panel_background_fill": "transparent",
    "input_border_width": "1px",
    "input_background_fill": "var(--bg-raised)",
    "input_border_color": "var(--line-strong)",
    "input_border_color_focus": "var(--accent)",
    "input_placeholder_color": "var(--ink-3)",
    "slider_color": "var(--accent)",
    "loader_color": "var(--accent)",
    "button_primary_background_fill": "var(--accent)",
    "button_primary_background_fill_hover": "var(--accent)",
    "button_primary_text_color": "var(--accent-ink)",
    "button_secondary_background_fill": "var(--bg-raised)",
    "button_secondary_background_fill_hover": "var(--bg-soft)",
    "button_secondary_border_color": "var(--line-strong)",
    "button_secondary_text_color": "var(--ink)",
    "button_cancel_background_fill": "var(--bg-soft)",
    "button_cancel_background_fill_hover": "var(--line)",
    "button_cancel_text_color": "var(--ink)",
}


def build_theme() -> gr.themes.Base:
    """Build the Gradio theme."""
    dark = {f"{name}_dark": color for name, color in _COLORS.items()}
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
        # Fonts given as plain names are looked up on the user's machine, never downloaded.
        font=_SYSTEM_FONTS,
        font_mono=_SYSTEM_MONO,
    ).set(color_accent="var(--accent)", **_COLORS, **dark)
