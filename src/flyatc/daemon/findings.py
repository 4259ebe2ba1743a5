"""What ``flyatc doctor`` finds: how it is, in a sentence, and what to change where it is not good."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    state: Literal["good", "doubt", "fault"]
    what: str  # two words at most: bucket, conditions, kill timeout
    told: str
    advice: str = ""  # what to do; "" where nothing needs to be done
