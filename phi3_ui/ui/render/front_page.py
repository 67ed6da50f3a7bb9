"""The page's HTML document before its scripts run: Gradio's, adapted to the visitor, or the login page instead."""

from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.ui.asset_urls import STATIC_URL
from phi3_ui.ui.render.templating import render

Theme = Literal["system", "light", "dark"]


@dataclass(frozen=True)
class Appearance:
    """The language and theme in which a visitor sees the page."""

    language: str
    is_language_chosen: bool = False
    """Whether it was picked on the page, rather than taken from the browser."""
    theme: Theme = "system"


@dataclass(frozen=True)
class LoginMethods:
    """How users can log in."""

    password: bool
    hugging_face: bool


# Why a sign-in with Hugging Face failed.
_PROBLEMS = {"denied", "expired", "invalid", "throttled", "unavailable"}

# Gradio and our scripts read the language from these properties: a picked language overrides the browser's.
_SET_LANGUAGE = """<script>
for (const [name, value] of [["language", "{0}"], ["languages", ["{0}"]]])
  Object.defineProperty(navigator, name, {{ get: () => value }});
</script>"""
# Gradio's loading screen starts an invisible clock that redraws the page 60 times a second forever.
_STOP_CLOCK = r"""<script>
{
  const request = window.requestAnimationFrame;
  const isClock = (draw) => /\(performance\.now\(\) *-[^;{}]*\/ *1e3[^;{}]*&&[^;{}]*\(\);?\s*\}$/.test(draw);
  window.requestAnimationFrame = (draw) => isClock(draw) ? 0 : request.call(window, draw);
}
</script>"""
# Only useful in another page's frame.
_ADD_RESIZER = "document.head.appendChild(script);"
_STYLE = f"""<link rel="stylesheet" href="{STATIC_URL}/tokens.css"><style>
body {{ background: var(--bg) !important; }}
#phi3-opening {{ position: fixed; inset: 0; z-index: -1; display: grid; place-content: center; color: var(--ink-3); font: 16px sans-serif; }}
</style>"""
# Shown until the page is drawn over it; static/setup_view.js removes it.
_OPENING = Markup('<div id="phi3-opening" role="status">{}</div>')
# Gradio does this too, but only once it has loaded.
_FOLLOW_SYSTEM = """<script>
document.body.classList.toggle("dark", matchMedia("(prefers-color-scheme: dark)").matches);
</script>"""


def adapt_page(html: str, appearance: Appearance, nonce: str) -> str:
    """Return Gradio's document with our title, in the visitor's language and theme from the first paint.

    `nonce` allows its inline scripts to run.
    """
    head = f"<head><title>{tr(appearance.language, 'title')}</title>{_STOP_CLOCK}"
    if appearance.is_language_chosen:
        head += _SET_LANGUAGE.format(appearance.language)
    # Gradio's absolute URL would leave the path under which a proxy serves the app.
    html = html.replace('"/manifest.json"', '"manifest.json"', 1)
    html = html.replace('lang="en"', f'lang="{appearance.language}"', 1)
    html = html.replace(_ADD_RESIZER, f"if (window.parent !== window) {_ADD_RESIZER}", 1)
    html = html.replace("<head>", head, 1).replace("</head>", f"{_STYLE}</head>", 1)
    if appearance.theme == "system":
        html = html.replace("<gradio-app", f"{_FOLLOW_SYSTEM}<gradio-app", 1)
    else:
        html = html.replace("<gradio-app", f'<gradio-app theme_mode="{appearance.theme}"', 1)
    if appearance.theme == "dark":
        html = html.replace("<body", '<body class="dark"', 1)
    html = html.replace("<gradio-app", f"{_OPENING.format(tr(appearance.language, 'opening'))}<gradio-app", 1)
    # Gradio writes < as \u003c outside of markup.
    return html.replace("<script", f'<script nonce="{nonce}"')


def render_login(appearance: Appearance, nonce: str, methods: LoginMethods, problem: str = "") -> str:
    """Return the login page. static/login.js sends the name and password; an unknown `problem` is ignored."""
    script = Markup(_FOLLOW_SYSTEM) if appearance.theme == "system" else ""  # noqa: S704 - a constant
    language = appearance.language
    sentence = tr(language, f"login.problem.{problem}") if problem in _PROBLEMS else ""
    html = render(
        "login.html", language, lang=language, theme=appearance.theme, script=script, methods=methods, problem=sentence
    )
    return str(html).replace("<script", f'<script nonce="{nonce}"')
