"""The errors a person may see, each one sentence with its cure. ui/i18n.py shows these and their translations."""

from models.stage import SENTENCES as STAGE_SENTENCES

SENTENCES = {
    **STAGE_SENTENCES,
    "bad_setting": "The environment variable {name} cannot be {value}. Set it to {wanted}, then start again.",
    "port_taken": "Port {port} of {host} is in use. End what uses it, or set GRADIO_SERVER_PORT to another.",
    "no_model": "No model is picked. Pick one in the list above the chat.",
    "model_gone": "This model is no longer in the tracking store. Pick another one.",
    "store_unreachable": "The tracking store {uri} does not answer ({detail}). "
    "Check MLFLOW_TRACKING_URI and that its server runs, then reload the page.",
    "load_failed": "{model} could not be loaded: {detail}. The details are in {log}; your next question tries again.",
    "model_crashed": "{model} stopped working ({detail}). What it wrote so far is kept; your next question loads it again.",
    "answer_failed": "{model} could not answer: {detail}. The details are in {log}; change the question or the settings and send it again.",
    "refused": "{model} refused the question: {detail}",
    "bad_template": "The chat template of {model} does not take this conversation: {detail}. Start a new chat, or pick another model.",
    "too_many_models": "{count} models are answering at this moment, which is as many as may be loaded at once. "
    "Try again when one is done, or raise PHI3_UI_MAX_LOADED_MODELS.",
    "model_busy": "{model} is answering someone. Unload it when the answer is done.",
    "unknown_preset": "There is no preset {preset}; there are: {known}. Set PHI3_UI_PRESET to one of them.",
    "unexpected": "Something went wrong ({detail}). It was logged with its trace; try again.",
}


class UserError(Exception):
    """An error to show a person: a code of SENTENCES and the values its sentence needs. str() is the English sentence."""

    def __init__(self, code: str, **values: str | int) -> None:
        super().__init__(SENTENCES[code].format(**values))
        self.code = code
        self.values = values
