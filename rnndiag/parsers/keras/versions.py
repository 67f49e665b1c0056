"""What a version of Keras computes by default, and what it calls ``hard_sigmoid``.

Read in the sources: keras 2.1.6, 2.2.4, 2.2.5, 2.3.1 (``layers/recurrent.py``, ``backend/tensorflow_backend.py``),
keras 3 (``backend/numpy/nn.py``), ``tf.keras`` of TensorFlow 2 (``layers/recurrent_v2.py``). The layers of TensorFlow 1
are taken to have the defaults of Keras 2.2, from which they were copied; their sources were not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rnndiag.kinds import GateFunction

_NUMBERS: Final = re.compile(r"(\d{1,4})(?:\.(\d{1,4}))?(?:\.(\d{1,4}))?")

FORMULAS: Final[dict[GateFunction, str]] = {
    "hard_sigmoid_fifth": "clip(x/5 + 1/2, 0, 1)",
    "hard_sigmoid": "clip(x/6 + 1/2, 0, 1)",
}
"""The two functions that Keras calls ``hard_sigmoid``."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of Keras, as a file states it (``2.1.6-tf``); empty if the file does not state it."""

    text: str = ""

    @property
    def numbers(self) -> tuple[int, int, int] | None:
        """The parts of the version; None if there are none."""
        match = _NUMBERS.match(self.text)
        return (int(match[1]), int(match[2] or 0), int(match[3] or 0)) if match else None

    @property
    def of_tensorflow(self) -> bool:
        """Whether it is the Keras within TensorFlow."""
        return self.text.endswith("-tf")

    @property
    def is_undecided(self) -> bool:
        """Whether TensorFlow 1 and TensorFlow 2, whose defaults differ, both write this version."""
        return self.text == "2.2.4-tf"

    @property
    def hard_sigmoid(self) -> GateFunction:
        """The function that this version calls ``hard_sigmoid``; Keras 2's if the version is not known."""
        return "hard_sigmoid" if (self.numbers or (2,)) >= (3,) else "hard_sigmoid_fifth"

    @property
    def gate(self) -> GateFunction:
        """The default ``recurrent_activation`` of LSTM and GRU; the layers of cuDNN have sigmoid in every version."""
        return self.hard_sigmoid if self.numbers and self.numbers < self._newer else "sigmoid"

    @property
    def reset_after(self) -> bool:
        """The default ``reset_after`` of GRU."""
        newer = self._newer if self.of_tensorflow else (2, 4, 0)  # Keras 2.3 kept it
        return not self.numbers or self.numbers >= newer

    @property
    def _newer(self) -> tuple[int, int, int]:
        """The first version with the defaults of today."""
        return (2, 2, 4) if self.of_tensorflow else (2, 3, 0)

    @property
    def shown(self) -> str:
        """``Keras 2.1.6``."""
        if not self.numbers:
            return "Keras"
        numbers = ".".join(map(str, self.numbers))
        return f"Keras {numbers}" + " (tf.keras)" * self.of_tensorflow
