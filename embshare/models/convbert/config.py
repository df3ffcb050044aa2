"""`ConvBertConfig`: the settings of a ConvBERT, and what they have to satisfy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Final, Self

from embshare.errors import InvalidValueError
from embshare.models._bert_config import BertConfig
from embshare.models.convbert.presets import PRESETS

__all__ = ["ConvBertConfig"]

POSITIVE: Final = ("generator_hidden_ratio", "generator_layer_ratio", "mask_probability")


class ConvBertConfig(BertConfig):
    """Settings of a ConvBERT; the defaults are those of the published base model.

    Settings that transformers' ``ConvBertConfig`` has too are named as there.

    Args:
        vocab_size: rows of the embedding table.
        embedding_size: the width ``E`` of the table; where it is not ``H``, a linear map follows.
        hidden_size: the width ``H`` of the layers.
        intermediate_size: the inner width of the feed-forward part.
        num_attention_heads: the heads ``n`` before they are reduced, a divisor of ``hidden_size``.
        num_hidden_layers: number of layers.
        head_ratio: ratio of ``n`` to the ``N = n / head_ratio`` heads that attend; ``N`` others
            convolve, and each has width ``H / n``. A ratio above ``n`` counts as ``n``.
        conv_kernel_size: positions ``K`` that a dynamic kernel sees; odd.
        num_groups: chunks that the feed-forward part is cut into.
        max_position_embeddings: the longest sequence.
        type_vocab_size: segments (token types).
        hidden_dropout_prob: after embeddings, attention and feed-forward part.
        attention_probs_dropout_prob: dropout of attention probabilities.
        classifier_dropout: dropout of the first position before a classifier.
        initializer_range: standard deviation of tables and matrices at the start.
        layer_norm_eps: epsilon of every norm.
        generator_hidden_ratio: the generator's width and heads, as shares of the discriminator's.
        generator_layer_ratio: its layers.
        generator_weight: weight of the generator's loss in pretraining.
        discriminator_weight: weight of the discriminator's loss.
        mask_probability: share of the tokens that the generator predicts.
        max_predictions: maximum number of masked tokens in a sequence.
        mask_share: predicted tokens that the generator sees as ``[MASK]``; it sees the others.
        answer_hidden_size: the hidden layer of the question answering heads.
        answer_beams: starts that an end is sought for.
        pad_token_id: padding token; the model itself reads padding from ``attention_mask``.
        cls_token_id: never masked, as the next two.
        sep_token_id: ends a segment.
        mask_token_id: replaces masked tokens.
        **kwargs: as every configuration of transformers takes, ``num_labels`` for one.
    Raises:
        InvalidValueError: a size below 1, heads that do not divide the width, a ratio that does
            not divide the heads, or a variant that is not this model.
    """

    model_type = "embshare-convbert"  # transformers' own has "convbert"
    sizes: ClassVar = (
        "vocab_size",
        "embedding_size",
        "hidden_size",
        "intermediate_size",
        "num_attention_heads",
        "num_hidden_layers",
        "head_ratio",
        "conv_kernel_size",
        "num_groups",
        "max_position_embeddings",
        "type_vocab_size",
        "max_predictions",
        "answer_hidden_size",
        "answer_beams",
    )
    probabilities: ClassVar = (*BertConfig.probabilities, "classifier_dropout")
    published: ClassVar = {
        "hidden_act": ("gelu",),
        "conv_type": ("sdconv",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    }

    def __init__(
        self,
        vocab_size: int = 30522,
        embedding_size: int = 768,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_attention_heads: int = 12,
        num_hidden_layers: int = 12,
        head_ratio: int = 2,
        conv_kernel_size: int = 9,
        num_groups: int = 1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        classifier_dropout: float | None = None,
        initializer_range: float = 0.02,
        layer_norm_eps: float = 1e-12,
        generator_hidden_ratio: float = 1 / 3,
        generator_layer_ratio: float = 1.0,
        generator_weight: float = 1.0,
        discriminator_weight: float = 50.0,
        mask_probability: float = 0.15,
        max_predictions: int = 19,
        mask_share: float = 0.85,
        answer_hidden_size: int = 512,
        answer_beams: int = 20,
        pad_token_id: int | None = 0,
        cls_token_id: int = 101,
        sep_token_id: int = 102,
        mask_token_id: int = 103,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_attention_heads = num_attention_heads
        self.num_hidden_layers = num_hidden_layers
        self.head_ratio = head_ratio
        self.conv_kernel_size = conv_kernel_size
        self.num_groups = num_groups
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.classifier_dropout = 0.1 if classifier_dropout is None else classifier_dropout
        self.initializer_range = initializer_range
        self.layer_norm_eps = layer_norm_eps
        self.generator_hidden_ratio = generator_hidden_ratio
        self.generator_layer_ratio = generator_layer_ratio
        self.generator_weight, self.discriminator_weight = generator_weight, discriminator_weight
        self.mask_probability, self.mask_share = mask_probability, mask_share
        self.max_predictions = max_predictions
        self.answer_hidden_size, self.answer_beams = answer_hidden_size, answer_beams
        super().__init__(**({"tie_word_embeddings": False} | kwargs))
        self.pad_token_id, self.mask_token_id = pad_token_id, mask_token_id
        self.cls_token_id, self.sep_token_id = cls_token_id, sep_token_id
        self.check()

    @classmethod
    def preset(cls, name: str, *, vocab_size: int = 30522) -> Self:
        """Settings of a published model: ``small``, ``medium-small`` or ``base``.

        Raises:
            InvalidValueError: another name.
        """
        if name not in PRESETS:
            known = ", ".join(repr(known) for known in PRESETS)
            raise InvalidValueError(
                what="the preset", faults=[f"it must be one of {known}, but is {name!r}"]
            )
        return cls(vocab_size=vocab_size, **PRESETS[name])

    @property
    def mixed_heads(self) -> int:
        """``N``: heads that attend, and as many that convolve."""
        return max(1, self.num_attention_heads // self.head_ratio)

    @property
    def head_size(self) -> int:
        """The width of one head, ``H / n`` of the heads before they are reduced."""
        return self.hidden_size // self.num_attention_heads

    def _faults_of_sizes(self) -> Iterator[str]:
        yield from super()._faults_of_sizes()
        for name in POSITIVE:
            if not 0 < (value := getattr(self, name)) <= 1:
                yield f"`{name}` must be above 0 and at most 1, but is {value!r}"
        if not 0 <= self.mask_share <= 1:
            yield f"`mask_share` must be from 0 to 1, but is {self.mask_share!r}"

    def _faults_of_relations(self) -> Iterator[str]:
        yield from super()._faults_of_relations()
        heads, groups = self.num_attention_heads, self.num_groups
        if self.head_ratio < heads and heads % self.head_ratio:
            yield (
                f"`head_ratio` must divide `num_attention_heads` = {heads}, but is "
                f"{self.head_ratio}, which leaves no whole number of heads"
            )
        if self.conv_kernel_size % 2 == 0:
            yield f"`conv_kernel_size` must be odd, but is {self.conv_kernel_size}"
        for name in ("hidden_size", "intermediate_size"):
            if (width := getattr(self, name)) % groups:
                yield f"`{name}` must be a multiple of `num_groups` = {groups}, but is {width}"
