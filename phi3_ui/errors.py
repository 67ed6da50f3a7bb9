"""The errors that users see, each one sentence with its cure. i18n/translate.py has the translations."""

from models.stage import SENTENCES as STAGE_SENTENCES

SENTENCES = {
    **STAGE_SENTENCES,
    "bad_setting": "The environment variable {name} cannot be {value}. Set it to {wanted}, then start again.",
    "plain_password": "The password of {name} in {source} is not hashed. Put what `python -m phi3_ui hash-password {name}` prints in its place, then start again.",
    "port_taken": "Port {port} of {host} is in use. Stop the program that uses it, or set GRADIO_SERVER_PORT to another port.",
    "mlflow_port_taken": "Port {port} is in use, perhaps by MLflow's UI. Stop the program that uses it, or set PHI3_UI_MLFLOW_URL to another port, such as http://127.0.0.1:5002.",
    "too_many_questions": "You have asked as many questions as one person may in a minute ({count}). Ask again in {seconds} s.",
    "too_many_answers": "You have as many answers under way as one person may ({count}). Wait for one to end, or stop it.",
    "tokens_used_up": "You have used the tokens that one person has for a day ({count}). Ask again in {seconds} s.",
    "no_model": "No model is selected. Select one in the list above the chat.",
    "model_gone": "This model is no longer in the tracking store. Pick another one.",
    "load_failed": "{model} could not be loaded: {detail}. See {log} for details; your next question tries again.",
    "model_crashed": "{model} crashed ({detail}). The text so far is saved; your next question loads the model again.",
    "model_hung": "{model} stopped responding and was ended, which interrupted this answer. The text so far is saved; ask again, and the model is loaded again.",
    "answer_failed": "{model} could not answer: {detail}. See {log} for details; change the question or the settings, then send it again.",
    "refused": "{model} rejected the question: {detail}",
    "bad_template": "The chat template of {model} cannot render this conversation: {detail}. Start a new chat, or pick another model.",
    "system_prompt_rejected": "{model} takes no system prompt (its chat template says: {detail}). Empty the system prompt, then send your question again.",
    "no_template": "{model} declares no prompt template. Pick one in the panel at the right, or with --template: {detail}.",
    "no_text": "{model} returned no text: {detail}. Its code has a bug; report it to its author, or pick another model.",
    "exited": "The code of {model} exited during its answer (exit code {detail}). It has a bug; report it to its author, or pick another model.",
    "too_many_models": "All loaded models are busy (limit: {count}). Try again when one has finished, or raise PHI3_UI_MAX_LOADED_MODELS.",
    "queue_full": "The queue of {model} is full (limit: {count} requests). Send your question again in a while.",
    "model_busy": "{model} is answering someone. Unload it when the answer is complete.",
    "unknown_preset": "There is no preset {preset}. Choose one of these: {known}.",
    "no_such_device": "{name} has no ONNX model for the device {device}. Choose one of these: {known}.",
    "nothing_to_log": "No weights were given. Give a preset, or a Hub id or folder for the pipeline or the ONNX model.",
    "two_onnx_sources": "An ONNX model is either used as it is or built. Give only one source for it.",
    "invalid_source": "{value} is neither a folder on this machine nor a Hub id such as microsoft/Phi-3-mini-4k-instruct. Check the spelling.",
    "bad_seed": "The seed cannot be {value}. Use a whole number from 0 to 2147483647, or leave it empty.",
    "invalid_param": "{name} cannot be {value}. Enter a value in the range {range}.",
    "already_adding": "{name} is being added. Wait until it is done, or cancel it.",
    "not_registered": "{model} is not registered. Register it with `python -m phi3_ui register`, then promote it.",
    "management_disabled": "Changing models is disabled on this server. Ask the administrator to set PHI3_UI_MANAGE=1.",
    "cancelled": "Cancelled. The files downloaded so far are kept: adding the same model again resumes the download.",
    "no_such_model": "The tracking store has no chat model {model}. List the models with `python -m phi3_ui list`.",
    "version_gone": "{name} no longer has the version or alias {version}. Refresh the list, then choose another.",
    "bad_alias": "{alias} is not a valid alias. Use letters, digits, - and _, but not “latest” or v followed by a number.",
    "bad_model_name": "{name} is not a valid name for a registered model: it must not be empty or contain / or :. Choose another.",
    "experiment_renamed": "The experiment {wanted} of the tracking store is now called {name}; its chats and models are still used. To rename it back: `MLFLOW_TRACKING_URI={store} mlflow experiments rename --experiment-id {id} --new-name {wanted}`. To start afresh: `MLFLOW_TRACKING_URI={store} mlflow experiments create --experiment-name {wanted}`.",
    "models_deleted": "The models of the tracking store are in deleted experiments: {names}. Restore one with `MLFLOW_TRACKING_URI={store} mlflow experiments restore --experiment-id {id}`, then try again; or set PHI3_UI_PRESET to have others logged.",
    "model_unreadable": "The files of {model} cannot be read ({detail}). Bring them back, or log the model again.",
    "model_not_trusted": "{model} is not loaded: that would run code that comes with it ({files}). If you trust its author, the administrator can allow it: `python -m phi3_ui trust {id} --approve`.",
    "store_in_folder": "MLFLOW_TRACKING_URI is the folder {uri}, in which the installed MLflow keeps no store. Copy its contents into a database with `mlflow migrate-filestore`, and set MLFLOW_TRACKING_URI to that.",
    "not_a_database": "The tracking store {uri} cannot be opened: {file} is not a SQLite database. Set MLFLOW_TRACKING_URI to another file, or to a server.",
    "chats_kept_locally": "The tracking store {uri} keeps no traces (MLflow 3.4 or later does), so chats are kept on this computer, in {file}.",
    "path_unusable": "{name} cannot be {value}: a path with {character} cannot be part of a store's address. Choose another folder.",
    "confirmation_required": "Removing {model} deletes its files permanently. Add --yes to confirm.",
    "cannot_relog": "{model} was logged by other code or its files are incomplete, so it cannot be logged again from here. Log it again with the program that created it.",
    "relog_unsafe": "{model} cannot be logged again: its files would run code or lead out of its folder ({files}). Log it again with the program that created it.",
    "questions_unreadable": "The questions in {file} cannot be read ({detail}). Use a .txt, .jsonl or .csv file in UTF-8.",
    "question_missing": "Line {line} of {file} has no question. Add a prompt, or messages that end with a user message.",
    "no_questions": "{file} contains no questions. Write one per line (.txt), or in the field prompt (.jsonl, .csv).",
    "output_write_failed": "Could not write the output: {detail}. Free some space, or write it elsewhere.",
    "empty_question": "The question is empty. Type one.",
    "no_answers": "No question was answered. The first error was: {detail}",
    "unsupported_option": "{model} does not support {option}. Leave it out.",
    "interrupted": "The app was closed during this answer. The text so far is saved; ask again.",
    "not_recorded": "The tracking store does not accept this chat at the moment ({detail}). It is kept here and written as soon as the store is available.",
    "not_journaled": "The disk does not accept this chat at the moment ({detail}). It is kept in memory: free some space before the app is closed.",
    "nothing_to_export": "There is no chat to export yet. Ask something first.",
    "cannot_reproduce": "This answer's request is not known completely, so it cannot be reproduced. Use Retry to answer the question again.",
    "nothing_to_replay": "There is nothing to replay. Open a chat, or ask something first.",
    "chat_busy": "This chat is being answered. Stop the answer or wait until it is complete, then try again.",
    "no_such_chat": "This chat no longer exists. Open another one, or start a new one.",
    "chat_unreadable": "This chat cannot be read: its traces in the tracking store are damaged. Open another chat, or start a new one.",
    "no_such_turn": "This message is not in the open chat. Open its chat, then try again.",
    "invalid_chat_file": "This file contains no readable chat ({detail}). Use a file exported here or from Open WebUI, ChatGPT, LM Studio or ShareGPT, or OpenAI messages as JSON.",
    "import_chat_too_large": "it takes more than {size} MB, which is too much for one chat",
    "import_not_kept": "the disk of the server does not take it ({detail})",
    "unexpected": "Something went wrong ({detail}). The error was logged with its traceback; try again.",
}


class UserError(Exception):
    """An error to show to a user: a code of SENTENCES and its values. str() is the English sentence."""

    def __init__(self, code: str, **values: str | int) -> None:
        super().__init__(SENTENCES[code].format(**values))
        self.code = code
        self.values = values


def error_from_record(code: str, values: dict[str, str | int]) -> UserError:
    """Restore a recorded error; "unexpected" with its details if another version of the app wrote a code unknown here."""
    try:
        return UserError(code, **values)
    except (KeyError, TypeError):
        return UserError("unexpected", detail=" ".join([code, *(f"{name}={value}" for name, value in values.items())]))
