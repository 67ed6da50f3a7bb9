"""The fixed parts of the programs that reproduce.py writes. No text of a person or a model is ever put into them.

All find their values in DATA, PARAMS, STOP, SEED, GENERATE, PRESENCE and FREQUENCY, and the loaded `model`.
"""

STOPS = '''

def stop_at(text):
    """Where the first of the stop texts begins; -1: there is none."""
    return min((text.find(stop) for stop in STOP if stop in text), default=-1)


def is_over(text):
    """Is there one, and can none that begins before it still come?"""
    return 0 <= stop_at(text) <= len(text) - max(map(len, STOP))

'''

PROMPT = """
print(model.predict(DATA, params=PARAMS)[0])
"""

GUARD = """
# What a person typed stays text: an invisible character breaks what looks like a control token.
tokens = [token.content for token in model.get_raw_model().tokenizer.added_tokens_decoder.values()]
if starts := "|".join(re.escape(token) for token in tokens if len(token) > 1):
    for message in DATA["messages"]:
        message["content"] = re.sub(f"(?=(?:{starts}))(.)", "\\\\1\\u2063", message["content"], flags=re.DOTALL)
"""

TAP = """
# MLflow hands on neither a seed nor what is in GENERATE, so the pipeline's generate is given it here.
pipeline = model.get_raw_model()
generate = pipeline.model.generate


def generate_as_then(**arguments):
"""

TAP_END = """    return generated


pipeline.model.generate = generate_as_then
"""

START = """    start = arguments["input_ids"].shape[1]
"""

PENALTIES = '''
    def penalised(ids, scores):
        """OpenAI's presence and frequency penalty, over the tokens of the answer alone."""
        answer = ids[:, start:]
        counts = scores.new_zeros(scores.shape).scatter_add_(1, answer, scores.new_ones(answer.shape))
        return scores - FREQUENCY * counts - PRESENCE * (counts > 0)

    arguments["logits_processor"] = [penalised]
'''

CRITERION = """
    special = {token.content: id_ for id_, token in pipeline.tokenizer.added_tokens_decoder.items() if token.special}
    ends = {special[stop] for stop in STOP if stop in special}

    def decoded(ids):
        return pipeline.tokenizer.backend_tokenizer.decode(ids[0, start:].tolist())

    def ended(ids, scores, **_):
        return int(ids[0, -1]) in ends or is_over(decoded(ids))

    arguments["stopping_criteria"] = [ended]
"""

SEED = """    torch.manual_seed(SEED)
"""

GENERATED = """    generated = generate(**{**arguments, **GENERATE})
"""

DECODED = """    said.append(decoded(generated))
"""

SAID = """
said = []
"""

PREDICT = {
    "chat": """
text = model.predict(DATA)[0]["choices"][0]["message"]["content"]
""",
    "completions": """
text = model.predict(DATA)[0]["choices"][0]["text"]
""",
}

TAPPED_TEXT = """if stop_at(said[0]) >= 0:
    text = said[0][: stop_at(said[0])].lstrip()
"""

PRINT = """print(text)
"""

READ = '''

def text_of(given):
    """The text in what the model gives: a string, a completion or a chunk, a record, or the first of a list or frame."""
    if hasattr(given, "iloc"):
        given = given.to_dict(orient="records") if given.ndim == 2 else given.tolist()
    for method in ("tolist", "to_dict", "model_dump"):
        if hasattr(given, method):
            given = getattr(given, method)()
    if isinstance(given, (list, tuple)):
        return text_of(given[0])
    if not isinstance(given, dict):
        return given or ""
    if "choices" in given:
        choice = (given["choices"] or [{}])[0]
        said = choice.get("delta") or choice.get("message") or choice
        content = said.get("content") or said.get("text")
    elif names := [name for name in ("content", "text") if name in given]:
        content = given[names[0]]
    else:
        return text_of(*given.values())
    if isinstance(content, list):
        return "".join(part.get("text") or "" if isinstance(part, dict) else part for part in content)
    return content or ""

'''

GIVEN_STREAM = """
all_given = model.predict_stream(DATA, params=PARAMS)
"""

GIVEN_WHOLE = """
all_given = [model.predict(DATA, params=PARAMS)]
"""

GIVEN_BY_CLASS = """
# Every such class has a predict_stream; MLflow's own only says that there is none.
streams = not type(model.get_raw_model()).predict_stream.__module__.startswith("mlflow.")
all_given = model.predict_stream(DATA) if streams else [model.predict(DATA)]
"""

_TEXTS = """texts = {}  # by message
for given in all_given:
"""

TEXTS = {
    "prompt": """text = ""
for given in all_given:
    text += text_of(given)
""",
    "chat_agent": _TEXTS
    + """    for message in [given["delta"]] if streams else given["messages"]:
        if message["role"] == "assistant":
            id_ = message.get("id")
            texts[id_] = texts.get(id_, "") + (message.get("content") or "")
    text = "\\n\\n".join(filter(None, texts.values()))
""",
    "responses": _TEXTS
    + """    if streams:
        items = [given["item"]] if given["type"] == "response.output_item.done" else []
        if given["type"] == "response.output_text.delta":
            texts[given["item_id"]] = texts.get(given["item_id"], "") + given["delta"]
    else:
        items = given["output"]
    for item in items:
        if item["type"] == "message":
            parts = item.get("content") or []
            texts.setdefault(item.get("id"), "".join(part.get("text") or part.get("refusal") or "" for part in parts))
    text = "\\n\\n".join(filter(None, texts.values()))
""",
}
TEXTS["chat_model"] = TEXTS["prompt"]

BREAK = """    if is_over(text):
        break
"""

CUT = """if stop_at(text) >= 0:
    text = text[: stop_at(text)]
"""

PRINT_STRIPPED = """print(text.lstrip())
"""
