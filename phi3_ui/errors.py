"""The errors a person may see, each one sentence with its cure. ui/i18n.py shows these and their translations."""

from models.stage import SENTENCES as STAGE_SENTENCES

SENTENCES = {
    **STAGE_SENTENCES,
    "bad_setting": "The environment variable {name} cannot be {value}. Set it to {wanted}, then start again.",
    "port_taken": "Port {port} of {host} is in use. End what uses it, or set GRADIO_SERVER_PORT to another.",
    "mlflow_port_taken": "Port {port} is in use, perhaps by MLflow's UI. End what uses it, or set PHI3_UI_MLFLOW_URL to another, such as "
    "http://127.0.0.1:5002.",
    "no_model": "No model is picked. Pick one in the list above the chat.",
    "model_gone": "This model is no longer in the tracking store. Pick another one.",
    "load_failed": "{model} could not be loaded: {detail}. The details are in {log}; your next question tries again.",
    "model_crashed": "{model} stopped working ({detail}). What it wrote so far is kept; your next question loads it again.",
    "answer_failed": "{model} could not answer: {detail}. The details are in {log}; change the question or the settings and send it again.",
    "refused": "{model} refused the question: {detail}",
    "bad_template": "The chat template of {model} does not take this conversation: {detail}. Start a new chat, or pick another model.",
    "no_template": "{model} declares no prompt template. Pick one in the panel at the right, or with --template: {detail}.",
    "no_text": "{model} gave no text that can be read: {detail}. Its own code must be mended; pick another model.",
    "exited": "The code of {model} ended itself in the middle of its answer (exit {detail}). It must be mended; pick another model.",
    "too_many_models": "{count} models are answering at this moment, which is as many as may be loaded at once. "
    "Try again when one is done, or raise PHI3_UI_MAX_LOADED_MODELS.",
    "queue_full": "{count} questions are with {model} already, which is as many as wait in line here. Send yours again in a while.",
    "model_busy": "{model} is answering someone. Unload it when the answer is done.",
    "unknown_preset": "There is no preset {preset}; there are: {known}. Choose one of them.",
    "no_such_device": "{name} has no ONNX model for the device {device}; it has: {known}. Choose one of them.",
    "nothing_to_log": "No weights are named. Name a preset, or a hub id or a folder for the pipeline or the ONNX model.",
    "two_onnx_sources": "An ONNX model is either taken as it is or built. Name one source for it, not two.",
    "invalid_source": "{value} is neither a folder on this machine nor a hub id such as microsoft/Phi-3-mini-4k-instruct. "
    "Check its spelling.",
    "invalid_param": "{name} cannot be {value}. Enter a value in the range {range}.",
    "bad_seed": "The seed cannot be {value}. Make it a whole number from 0 to 2147483647, or leave it empty.",
    "already_adding": "{name} is being added. Wait until it is done, or cancel it.",
    "not_registered": "{model} is not registered. Register it with `python -m phi3_ui register`, then promote it.",
    "management_disabled": "Changing models is off on this server. Who runs it sets PHI3_UI_MANAGE=1 to allow it.",
    "cancelled": "Cancelled. What was downloaded is kept: adding the same model again goes on from there.",
    "no_such_model": "No chat model of the tracking store is called {model}. “python -m phi3_ui list” shows those there are.",
    "version_gone": "{name} has no version or alias {version} any more. Look at the list again, then choose another.",
    "bad_alias": "{alias} cannot be an alias: letters, digits, - and _ are allowed, but not “latest”, and not v with a number. Choose another.",
    "bad_model_name": "{name} cannot be the name of a registered model: it must not be empty, nor hold / or :. Choose another.",
    "store_read_only": "The tracking store {uri} may not be changed from here ({detail}). "
    "Ask who keeps it for the right to write, or set MLFLOW_TRACKING_URI to a store of your own.",
    "confirmation_required": "Removing {model} deletes its files for good. Add --yes if that is meant.",
    "cannot_relog": "{model} was logged by other code, or its files are not whole, so it cannot be logged again from here. "
    "Log it again with the program that made it.",
    "questions_unreadable": "The questions in {file} cannot be read ({detail}). Give a .txt, .jsonl or .csv file in UTF-8.",
    "question_missing": "Line {line} of {file} asks nothing. Give it a prompt, or messages that end with the user's.",
    "no_questions": "{file} holds no question. Write one a line (.txt), or in the field prompt (.jsonl, .csv).",
    "output_write_failed": "What is written here finds no room ({detail}). Free some space, or send the output elsewhere.",
    "empty_question": "The question is empty. Write one.",
    "no_answers": "None of the questions was answered. The first failed so: {detail}",
    "unsupported_option": "{model} does not take {option}. Leave it out.",
    "interrupted": "The app ended while this was written. What there was of it is kept; ask again.",
    "not_recorded": "The tracking store does not take this chat at the moment ({detail}). It is kept here and written as soon "
    "as the store answers.",
    "not_journaled": "The disk does not take this chat at the moment ({detail}). It is held in memory: free some space before "
    "the app is closed.",
    "nothing_to_export": "There is no chat to save yet. Ask something first.",
    "cannot_reproduce": "What was asked here is not known well enough to ask it again. Use Retry to answer it once more.",
    "nothing_to_replay": "There is nothing to ask again here. Open a chat, or ask something first.",
    "chat_busy": "This chat is being answered. Stop the answer or wait for its end, then try again.",
    "no_such_chat": "This chat is not there any more. Open another one, or start a new one.",
    "no_such_turn": "This message is not in the chat that is shown. Open its chat, then try again.",
    "invalid_chat_file": "This file holds no chat that can be read ({detail}). Take one that was exported here, or OpenAI messages as JSON.",
    "unexpected": "Something went wrong ({detail}). It was logged with its trace; try again.",
}


class UserError(Exception):
    """An error to show a person: a code of SENTENCES and the values its sentence needs. str() is the English sentence."""

    def __init__(self, code: str, **values: str | int) -> None:
        super().__init__(SENTENCES[code].format(**values))
        self.code = code
        self.values = values


def error_from_record(code: str, values: dict[str, str | int]) -> UserError:
    """This error, or, where SENTENCES cannot say it (another version of the app wrote it), "unexpected" with all of it."""
    try:
        return UserError(code, **values)
    except (KeyError, TypeError):
        return UserError("unexpected", detail=" ".join([code, *(f"{name}={value}" for name, value in values.items())]))
