"""The weights of nets with dropout on their recurrent weights (AWD-LSTM, fastai), as they are without dropout."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from rnndiag.files.text import listing
from rnndiag.printable import printable

if TYPE_CHECKING:
    from rnndiag.checkpoint.layers.renamed import Renamed

_RAW: Final = re.compile(
    r"(?P<module>(?:.*\.)?)(?P<kind>weight_(?:ih|hh))_(?P<level>l\d{1,3}(?:_reverse)?)_raw", re.DOTALL
)


def take_raw_weights(container: Renamed) -> None:
    """Give ``weight_hh_l0_raw`` the name ``weight_hh_l0``, in the place of a copy that dropout has thinned out.

    The raw weight is in the recurrent module itself or in the wrapper around it, whose child is called ``module``.
    """
    stale = []
    for name in [name for name in container.tensors if name.endswith("_raw")]:
        match = _RAW.fullmatch(name)
        if match is None:
            continue
        module, own = match["module"], f"{match['kind']}_{match['level']}"
        wrapped = any(
            f"{module}module.{kind}_{match['level']}" in container.tensors for kind in ("weight_ih", "weight_hh")
        )
        whole = f"{module}{'module.' * wrapped}{own}"
        stale += [printable(whole)] if whole in container.tensors else []
        container.tensors[whole] = container.tensors.pop(name)
    if stale:
        container.notes.append(
            f"{listing(stale, 3)} came from the tensors with _raw, because those without it are copies with dropout"
        )
