"""The filter of the model menu, in Deno."""

import json
import subprocess
from pathlib import Path

import deno


def test_a_row_matches_if_it_has_every_word_whatever_its_case_and_accents() -> None:
    rows = [
        {"name": "phi-onnx", "facts": ["ONNX", "8k context"], "chips": [{"text": "champion"}]},
        {"name": "Povestitor", "facts": ["Pipeline"], "chips": [{"text": "încercare"}]},
    ]
    queries = ["", "  ", "PHI", "champion 8k", "incercare", "glume pipeline", "onnx pipeline", ".*", "m-1"]
    stdin = json.dumps({"group": "glume", "rows": rows, "queries": queries})
    command = [deno.find_deno_bin(), "run", "--no-config", str(Path(__file__).with_name("filter_models.js"))]
    done = subprocess.run(command, input=stdin, check=True, capture_output=True, encoding="utf-8")

    first, second, both, none = [True, False], [False, True], [True, True], [False, False]
    assert json.loads(done.stdout) == [both, both, first, first, second, second, none, none, none]
