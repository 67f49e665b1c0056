"""Pickles made to harm: none runs code, takes the memory, hangs, or brings out a foreign exception.

Each is read in a process of its own, which holds it to the limits of every file (see ``sandbox``). A case that could
be read as a model is given a real layer beside the attack, so that the attack is reached.
"""

from __future__ import annotations

import copyreg
import os
import pickle
from pickle import (
    EXT1,
    MARK,
    TUPLE,
)

import pytest

from tests.builders.hostile_pickles import BOMBS
from tests.builders.pickled_files import plain_of
from tests.builders.pickles import DATA, beside_layer, calls, whole
from tests.builders.torch_files import legacy_of, zip_of

FORMS = pytest.mark.parametrize("form", [zip_of, legacy_of, plain_of], ids=["zip", "legacy", "plain"])


class TestNothingRuns:
    """Each way in which a pickle can call, aimed at a shell command that would leave a file."""

    @FORMS
    @pytest.mark.parametrize("opcode", calls(""))
    def test_no_call_is_made(self, sandbox, tmp_path, form, opcode):
        sentinel = tmp_path / "sentinel"
        attack = calls(f"touch {sentinel}")[opcode]
        if form is zip_of:
            sandbox(zip_of(tmp_path / "model.pt", beside_layer(attack), DATA))
        else:
            sandbox(form(tmp_path / "model.pt", whole(attack)))
        assert not sentinel.exists()

    def test_the_attack_is_a_real_one(self, tmp_path):
        """Python's own unpickler would run it: the cases above can fail."""
        sentinel = tmp_path / "sentinel"
        command = f"touch {sentinel}"
        for opcode in ("REDUCE", "STACK_GLOBAL", "INST", "OBJ", "eval", "exec", "open", "a chain"):
            left = pickle.loads(whole(calls(command)[opcode]))
            if opcode == "open":
                left.close()
            assert sentinel.exists()
            sentinel.unlink()

    def test_a_registered_extension_is_not_resolved(self, refusal, tmp_path):
        """A program may have registered functions under numbers."""
        copyreg.add_extension("os", "system", 1)
        try:
            assert pickle.loads(whole(EXT1 + b"\x01")) is os.system
            refused = refusal(zip_of(tmp_path / "model.pt", beside_layer(EXT1 + b"\x01"), DATA))
        finally:
            copyreg.remove_extension("os", "system", 1)
        assert "opcode b'\\x82' has no place in a model" in refused

    def test_a_real_layer_beside_an_attack_is_read(self, sandbox, tmp_path):
        attack = calls(f"touch {tmp_path / 'sentinel'}")["REDUCE"]
        outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(attack), DATA))
        assert outcome["layers"] == ["rnn"]
        assert not (tmp_path / "sentinel").exists()


ANNOUNCED = [bomb for bomb in BOMBS if bomb.endswith("announced")]
REFUSED = {
    "memo index": "memo index",
    "colliding memo indices": "memo index",
    **dict.fromkeys([bomb for bomb in ANNOUNCED if "frame" not in bomb], "it is cut short"),
    "marks": "more objects than any model needs",
    "empty dicts": "more objects than any model needs",
    "nested rebuilds": "maximum recursion depth exceeded",
    "a long name looked up often": "the name of a class or function is malformed",
    "digits": "a line of text that is cut short, or longer than 4096 bytes",
    "items for a number": "items given to int",
    "elements for a string": "elements given to str",
    "a call of a number": "it calls int",
    "arguments that are no tuple": "expected a tuple of arguments, got int",
    "an empty stack": "pop from empty list",
    "an unknown opcode": "opcode b'\\xff' has no place",
}
"""What is said of those that are no model; the others are read past."""


@FORMS
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(sandbox, tmp_path, form, bomb):
    if form is zip_of:
        outcome = sandbox(zip_of(tmp_path / "model.pt", beside_layer(BOMBS[bomb]), DATA))
    else:
        outcome = sandbox(form(tmp_path / "model.pt", whole(MARK, BOMBS[bomb], TUPLE)))
    if bomb in REFUSED:
        assert REFUSED[bomb] in outcome["refused"]
    elif form is zip_of:
        assert outcome["layers"] == ["rnn"]
    else:
        assert "no recurrent layer" in outcome["refused"]
