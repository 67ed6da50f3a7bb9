"""The document before its scripts run, in the visitor's language and theme."""

import pytest

from phi3_ui.ui.render.front_page import Appearance, LoginMethods, Theme, adapt_page, render_login

_GRADIO = '<html\n\tlang="en"><head><meta></head>\n<body\n\tstyle="x">\n<gradio-app\n\tembed="false"></gradio-app></body></html>'


def test_the_browsers_language_and_theme_are_used_unless_others_were_chosen() -> None:
    default_page = adapt_page(_GRADIO, Appearance("ro"), "n0nce")
    assert 'lang="ro"' in default_page
    assert "navigator" not in default_page
    assert "prefers-color-scheme" in default_page
    assert "theme_mode" not in default_page
    assert default_page.count("<title>") == 1

    chosen_page = adapt_page(_GRADIO, Appearance("ro", is_language_chosen=True, theme="dark"), "n0nce")
    assert '["language", "ro"]' in chosen_page.partition("<meta>")[0], "before Gradio's scripts"
    assert '<body class="dark"' in chosen_page
    assert '<gradio-app theme_mode="dark"' in chosen_page
    assert "prefers-color-scheme" not in chosen_page
    assert 'class="dark"' not in adapt_page(_GRADIO, Appearance("en", theme="light"), "n0nce")


def test_the_frame_resizer_is_loaded_only_in_a_frame() -> None:
    page = adapt_page(
        _GRADIO.replace("<meta>", "<script>document.head.appendChild(script);</script>"), Appearance("en"), "n"
    )

    assert "if (window.parent !== window) document.head.appendChild(script);" in page


@pytest.mark.parametrize(("language", "title"), [("en", "Log in"), ("ro", "Autentificare")])
def test_the_login_names_the_product_and_helps_password_managers(language: str, title: str) -> None:
    page = render_login(Appearance(language, theme="dark"), "n0nce", LoginMethods(password=True, hugging_face=False))

    assert f"<title>{title} · Phi-3 Chat" in page
    assert '<body class="dark">' in page
    assert 'autocomplete="username"' in page
    assert 'autocomplete="current-password"' in page
    assert 'role="alert"' in page


@pytest.mark.parametrize("theme", ["system", "light", "dark"])
def test_every_inline_script_has_the_nonce(theme: Theme) -> None:
    appearance = Appearance("ro", is_language_chosen=True, theme=theme)
    page = adapt_page(_GRADIO.replace("<meta>", "<script>1</script>"), appearance, "n0nce")
    login = render_login(appearance, "n0nce", LoginMethods(password=True, hugging_face=True))

    for html in (page, login):
        assert html.count("<script") == html.count('<script nonce="n0nce"') > 0
