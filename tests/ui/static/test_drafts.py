"""The drafts of chats that are not shown, across a reload, in Deno."""

import json
import subprocess
from pathlib import Path

import deno


def test_drafts_of_other_chats_survive_a_reload_but_not_a_logout() -> None:
    script = Path(__file__).with_name("drafts.js")
    command = [deno.find_deno_bin(), "run", "--no-config", str(script)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout) == {
        "reloaded": [
            ["a", {"typed": "And of", "attached": []}],
            ["b", {"typed": " ", "attached": [{"name": "x.md", "text": "y"}]}],
        ],
        "emptied": [],
        "loggedOut": [],
    }
