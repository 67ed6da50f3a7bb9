"""Every colour, size and space of the page: one accent, system fonts, light and dark."""

import gradio as gr

_SYSTEM_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_SYSTEM_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        spacing_size=gr.themes.sizes.spacing_sm,
        radius_size=gr.themes.sizes.radius_md,
        # Names without a class are looked for on the person's machine, never fetched.
        font=_SYSTEM_FONTS,
        font_mono=_SYSTEM_MONO,
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_600",
        button_primary_text_color="white",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
    )


CSS = """
:root { --phi3-gap: 0.5rem; --phi3-small: 0.8rem; --phi3-error: #b42318; --phi3-reading: 52rem; }
.dark { --phi3-error: #fda29b; }
.gradio-container, .gradio-container .app { padding: 0 !important; }
footer { display: none !important; }

/* Below this width the side panels are drawers over the chat; scripts.COLLAPSE_SIDEBARS_JS shuts them before they are seen. */
@media (max-width: 1000px) { .sidebar:not([data-settled]) { visibility: hidden; } }

/* The chat takes what height there is and keeps its place while it streams. */
#phi3-main { position: relative; height: 100dvh; max-width: var(--phi3-reading); margin: 0 auto; padding: var(--phi3-gap) 1rem; flex-wrap: nowrap; }
#phi3-chat { flex: 1 1 auto !important; min-height: 8rem; height: auto !important; border: 0; }
@media (max-width: 1000px) { #phi3-pick { padding: 0 2rem; } }
#phi3-picker input { text-overflow: ellipsis; padding-right: 1.75rem; }
#phi3-context { flex: 0 0 auto !important; min-height: 0; padding: 0; }
.phi3-context { display: flex; align-items: center; gap: 0.75rem; height: 1.25rem; margin: 0; position: relative;
  color: var(--body-text-color-subdued); font-size: var(--phi3-small); font-variant-numeric: tabular-nums; white-space: nowrap; overflow: hidden; }
.phi3-context progress { flex: 0 0 12rem; height: 0.4rem; accent-color: var(--primary-600); }
.phi3-context[style]::before { content: ""; position: absolute; left: calc(12rem * var(--mark)); width: 1px; height: 0.8rem; background: var(--phi3-error); }
@media (max-width: 600px) { .phi3-context progress { flex-basis: 5rem; } .phi3-context[style]::before { display: none; } }
#phi3-composer { flex: 0 0 auto; align-items: flex-end; }
#phi3-composer button { min-width: 6rem; flex: 0 0 auto; }
#phi3-composer textarea { font-size: 1rem; }

/* Clearing is what New chat is for; this button would empty the picture, not the chat. */
#phi3-chat .top-panel { display: none; }
#phi3-chat .message-row { padding: 0.4rem 1rem; }
#phi3-chat .message-row .message { padding-top: 0.2rem; padding-bottom: 0.2rem; }
#phi3-chat .message-row:has(.phi3-by) { padding-top: 0; padding-bottom: 0.75rem; }
#phi3-chat .bot-row, #phi3-chat .bot-row .message { background: transparent; border: 0; }
#phi3-chat .message-buttons { margin: 0; }

/* A caption says which model gave the answer above it; it is no message to copy. */
#phi3-chat .message-row:has(.phi3-by) .message-buttons, #phi3-chat .message-row:has(.phi3-wait) .message-buttons,
#phi3-chat .message-row:has(.phi3-by) + .message-buttons { display: none; }
.phi3-by, .phi3-wait { color: var(--body-text-color-subdued); font-size: var(--phi3-small); font-variant-numeric: tabular-nums; }
.phi3-by b { font-weight: 600; }
.phi3-error { color: var(--phi3-error); }
.phi3-quiet { color: var(--body-text-color-subdued); font-size: var(--phi3-small); margin: 0; }
.phi3-status { color: var(--body-text-color-subdued); font-size: var(--phi3-small); margin: 0; font-variant-numeric: tabular-nums; }
.phi3-status::before { content: "○ "; }
.phi3-status.loaded::before { content: "● "; color: var(--primary-600); }

.phi3-usage { width: 100%; border-collapse: collapse; font-size: var(--phi3-small); font-variant-numeric: tabular-nums; }
.prose .phi3-usage, .prose .phi3-usage :is(tr, th, td) { border: 0; background: transparent; }
.phi3-usage th { text-align: left; font-weight: 400; color: var(--body-text-color-subdued); padding: 0.15rem 0; }
.phi3-usage td, .phi3-usage thead th { text-align: right; padding: 0.15rem 0 0.15rem 0.4rem; }

.phi3-card { font-size: var(--phi3-small); }
.phi3-card summary { cursor: pointer; font-weight: 600; margin-top: 0.75rem; }
.phi3-card dl { display: grid; grid-template-columns: minmax(5rem, 2fr) 3fr; gap: 0.15rem 0.5rem; margin: 0.25rem 0 0; }
.phi3-card dt { color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
.phi3-card dd { margin: 0; overflow-wrap: anywhere; white-space: pre-line; font-variant-numeric: tabular-nums; max-height: 12rem; overflow-y: auto; }

.phi3-note { font-size: var(--phi3-small); margin: 0; }
.phi3-health { margin: 0 0 0.25rem; }
.phi3-health:is(.warning, .error)::before { content: "▲ "; }
.phi3-health.error { color: var(--phi3-error); }
.phi3-health.ok::before { content: "● "; color: var(--primary-600); }
.phi3-job p { font-size: var(--phi3-small); font-variant-numeric: tabular-nums; margin: 0 0 0.25rem; }
.phi3-job progress { width: 100%; accent-color: var(--primary-600); }

.phi3-setup { max-width: 32rem; margin: 20vh auto 0; }
.phi3-setup-note p { margin: 0; }
.phi3-setup h2 { margin: 0 0 var(--phi3-gap); font-size: 1.25rem; }
.phi3-setup p { font-variant-numeric: tabular-nums; }
.phi3-setup progress { width: 100%; accent-color: var(--primary-600); }

/* The list of chats: plain rows by day, the open one marked by its ground. */
.phi3-action { background: none; border: 0; padding: 0.1rem 0.35rem; color: inherit; font: inherit; cursor: pointer; border-radius: 0.25rem; }
.phi3-action:hover, .phi3-action:focus-visible { background: var(--background-fill-secondary); color: var(--body-text-color); }
.phi3-chats h3 { font-size: var(--phi3-small); font-weight: 400; color: var(--body-text-color-subdued); margin: 0.75rem 0.35rem 0.15rem; }
.phi3-row { display: flex; align-items: center; border-radius: 0.25rem; }
.phi3-row > .phi3-action { flex: 1 1 auto; min-width: 0; text-align: left; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; padding: 0.35rem; }
.phi3-row[aria-current] { background: var(--background-fill-secondary); font-weight: 600; }
.phi3-row-actions { flex: 0 0 auto; width: 0; overflow: hidden; white-space: nowrap; color: var(--body-text-color-subdued); }
.phi3-row:hover .phi3-row-actions, .phi3-row:focus-within .phi3-row-actions { width: auto; }
@media (hover: none) { .phi3-row-actions { width: auto; } }
.phi3-rename { flex: 1 1 auto; min-width: 0; font: inherit; padding: 0.25rem; background: var(--input-background-fill); color: inherit; border: 1px solid var(--border-color-primary); }
.phi3-login { margin: 0.75rem 0.35rem 0; }
.phi3-removed { margin: 0.35rem; }
.phi3-removed .phi3-action { color: var(--primary-600); text-decoration: underline; }
.dark .phi3-removed .phi3-action { color: var(--primary-400); }

/* What can be done to an answer stands below its caption. */
.phi3-actions { display: block; color: var(--body-text-color-subdued); font-size: var(--phi3-small); margin-left: -0.35rem; }
.phi3-versions { font-variant-numeric: tabular-nums; margin-right: 0.35rem; }
#phi3-warning, #phi3-editing { flex: 0 0 auto !important; min-height: 0; padding: 0; }
#phi3-warning p, #phi3-editing p { font-size: var(--phi3-small); margin: 0; }
#phi3-comment { flex: 0 0 auto; }
#phi3-comment .row { align-items: stretch; gap: 0; }
#phi3-comment button { align-self: stretch; height: auto; border-radius: 0; }
.phi3-actions a { color: inherit; padding: 0.1rem 0.35rem; }

/* A replay covers the chat until it is put away. */
#phi3-replay { position: absolute; inset: 0; z-index: 100; overflow-y: auto; padding: var(--phi3-gap) 1rem; background: var(--background-fill-primary); flex-wrap: nowrap; }
:is(#phi3-warning, #phi3-editing):not(:has(p)) { display: none; }
"""
