"""The footer of the conversations: who is logged in, and buttons for actions on all chats."""

from markupsafe import Markup

from phi3_ui.i18n.translate import tr
from phi3_ui.logins import display_name
from phi3_ui.ui.render.icons import icon
from phi3_ui.ui.render.templating import render


def render_footer(language: str, login: str | None, mlflow_url: str | None) -> Markup:
    """Render the footer; `login` is None for a guest, `mlflow_url` is None while MLflow's UI is not available."""
    name = display_name(login) if login else tr(language, "guest")
    return render(
        "chat_footer.html", language, name=name, is_logged_in=login is not None, mlflow_url=mlflow_url, icon=icon
    )
