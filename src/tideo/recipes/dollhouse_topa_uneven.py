"""Pre-alignment of the dollhouse's language model for frames that a selector chooses for each question.

tideo prealign dollhouse_topa_uneven
"""

from dataclasses import replace

from tideo.recipes.dollhouse_topa import dollhouse_topa
from tideo.train.topa.config import PrealignConfig


def dollhouse_topa_uneven() -> PrealignConfig:
    return replace(dollhouse_topa(), pad_frames="time", uneven=0.5)
