"""The base of ShareBERT's, ELC-BERT's and ConvBERT's configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from transformers import PretrainedConfig

from embshare.errors import InvalidValueError

__all__ = ["BertConfig"]


class BertConfig(PretrainedConfig):
    """Settings that are checked when they are made, and once more when a model is built."""

    sizes: ClassVar[tuple[str, ...]] = ()
    """Settings that are whole numbers of at least 1."""
    probabilities: ClassVar[tuple[str, ...]] = (
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
    )
    """Settings from 0 to below 1."""
    published: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Settings of other code, and the values that give the published models."""

    def check(self) -> None:
        """Refuse settings that no model can be built from, all faults at once.

        Raises:
            InvalidValueError: as the family's configuration says.
        """
        faults = list(self._faults_of_sizes()) or list(self._faults_of_relations())
        faults += self._faults_of_variants()
        if faults:
            raise InvalidValueError(what=type(self).__name__, faults=faults)

    def _faults_of_sizes(self) -> Iterator[str]:
        for name in self.sizes:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                yield f"`{name}` must be a whole number of at least 1, but is {value!r}"
        for name in self.probabilities:
            if not 0 <= (value := getattr(self, name)) < 1:
                yield f"`{name}` must be at least 0 and below 1, but is {value!r}"

    def _faults_of_relations(self) -> Iterator[str]:
        hidden, heads = self.hidden_size, self.num_attention_heads
        if hidden % heads:
            yield (
                f"`hidden_size` must be a multiple of `num_attention_heads` = {heads}, but is "
                f"{hidden}"
            )

    def _faults_of_variants(self) -> Iterator[str]:
        for name, known in self.published.items():
            if (value := getattr(self, name, known[0])) not in known:
                yield f"`{name}` must be {known[0]!r}, but is {value!r}: that is another model"
