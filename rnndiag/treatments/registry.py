"""The list of all treatments: a new treatment is a class in its own file and one line here."""

from __future__ import annotations

from rnndiag.treatments.attention import Attention
from rnndiag.treatments.base import Training, Treatment
from rnndiag.treatments.chrono import Chrono
from rnndiag.treatments.clip import Clip
from rnndiag.treatments.gated import Gated
from rnndiag.treatments.lower_leak import LowerLeak
from rnndiag.treatments.nearest_orthogonal import NearestOrthogonal
from rnndiag.treatments.reinitialize import SCHEMES, Reinitialize
from rnndiag.treatments.rescale import Rescale
from rnndiag.treatments.scale_inputs import ScaleInputs
from rnndiag.treatments.truncate import Truncate

_ALL: tuple[Treatment, ...] = (
    Rescale(),
    NearestOrthogonal(),
    ScaleInputs(),
    LowerLeak(),
    Chrono(),
    *(Reinitialize(scheme) for scheme in SCHEMES),
    Gated("gru"),
    Gated("lstm"),
)
TREATMENTS: dict[str, Treatment] = {treatment.name: treatment for treatment in _ALL}

PAIRS: tuple[tuple[str, str], ...] = (
    ("scale-inputs", "rescale"),
    ("nearest-orthogonal", "scale-inputs"),
    ("scale-inputs", "chrono"),
    ("init-orthogonal", "scale-inputs"),
    ("init-orthogonal", "chrono"),
    ("init-xavier", "chrono"),
    ("gru", "chrono"),
    ("lstm", "chrono"),
)
"""The second is applied to what the first leaves ill: where one alone heals, nothing is added."""

TRAINING: dict[str, Training] = {advice.name: advice for advice in (Clip(), Truncate(), Attention())}

NAMES: tuple[str, ...] = (*TREATMENTS, *(f"{one}+{two}" for one, two in PAIRS), *TRAINING)
