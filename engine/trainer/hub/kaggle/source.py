"""A model on Kaggle as the messages of a fetch name it.

>>> source = KaggleSource(parse_kaggle_model("google/gemma/flax/2b/2"))
>>> source.at, source.cache_variable
('google/gemma/flax/2b/2 of Kaggle', 'KAGGLEHUB_CACHE')
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.protocol.kaggle_models import CACHE_VARIABLE, KaggleModel, parse_kaggle_model

__all__ = ["KaggleSource", "parse_kaggle_model"]


@dataclass(frozen=True, slots=True)
class KaggleSource:
    """:class:`engine.trainer.hub.client.Source` of one version."""

    model: KaggleModel

    @property
    def id(self) -> str:
        """Its five parts."""
        return str(self.model)

    @property
    def at(self) -> str:
        """For sentences."""
        return f"{self.model} of Kaggle"

    @property
    def host(self) -> str:
        """Who has it."""
        return "Kaggle"

    @property
    def cache_variable(self) -> str:
        """Where its files are kept."""
        return CACHE_VARIABLE

    @property
    def choice(self) -> str:
        """What else its page offers."""
        return "variation"
