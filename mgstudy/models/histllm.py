"""HistLLM: a language model says whether a user likes an item, of a history that is one token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional

from mgstudy.config.parameters import LogFloatRange, ParameterSet, Space, Value, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.base import Batch, ModalityNeed, Paper, Recommender, Scorer
from mgstudy.models.history_encoders import ENCODERS
from mgstudy.models.language_models import RANDOM, Precision, load_language_model, with_adapters
from mgstudy.models.layers import linear
from mgstudy.models.losses import bpr_loss, dot_products
from mgstudy.models.prompts import Prompts
from mgstudy.models.rows import gather_rows
from mgstudy.models.signals import Signal, passed
from mgstudy.models.two_stages import TwoStages, held_out_users
from mgstudy.models.user_histories import UserHistories

_PAIRS_AT_ONCE = {"cpu": 64}
"""Questions asked at once when ranking, by kind of device: the keys and values of their prompts
take 100 MB in a model of 30 layers and width 576."""
_PAIRS_ELSEWHERE = 1024
_CORE, _GPU = 2e10, 1e14
"""Operations a second: measured on a processor with SmolLM2-135M in single precision; assumed of a
large GPU in half precision."""
_USERS_AT_ONCE = 4096
_NO_VISUAL = "none"


class HistLLM(Recommender):
    """HistLLM (Zhang et al., arXiv 2504.10150v1; its version 2 withdraws it, to revise experimental
    details, so there is no published number to compare with).

    The paper's: an item's picture is mapped into the space of a language model's tokens; a sequence
    encoder over what the user did, each item being its text and its picture's token, gives one
    vector, which is projected to a token that stands for the user; a prompt with this token and the
    item is answered by whether the user likes it.

    The prompt is ``Item: TEXT [picture]⏎User: [user]⏎Does the user like the item? Answer:`` and
    ``D = logit(" Yes") - logit(" No")`` after it. With T the frozen table of tokens, ``N(x) =
    scale * layer_norm(x)`` and p the picture's features::

        e = N(W2 gelu(W1 p + b1) + b2)           c = W [mean of T over TEXT; e] + b
        h = GRU over the c of the history        user token = N(W_u h + b_u)
        s = <h, c>                               the first stage
        loss = mean(softplus(-D+) + softplus(D-)) / 2 + first_stage_weight * BPR(s+ - s-)

    Assumed, as the public text does not say: the prompt's words, and that the item comes first (all
    that depends on the item alone is then computed once for all users); that texts are averaged;
    the GRU; the loss over the two answers; adapters (LoRA) on queries and values with TALLRec's
    settings; and the first stage, which chooses the ``candidates`` that the language model ranks,
    before all other items. Texts are those of the dataset (``texts`` in its pipeline); the paper
    has a larger model write descriptions of titles.

    The history of a training pair is what the user did before it; on a dataset without times, all
    else, as the mean of c. Of the language model nothing is trained but the adapters, and nothing
    else is kept in checkpoints. Without a GPU, only small models are practical: see ``mgstudy
    plan``. Robust methods reach the picture's features, the maps around the language model and its
    answers, not what happens inside it.
    """

    name = "HistLLM"
    paper = Paper(
        title="HistLLM: A Unified Framework for LLM-Based Multimodal Recommendation with User "
        "History Encoding and Compression",
        authors="Zhang, Hu, Chen, Mao",
        venue="arXiv",
        year=2025,
        url="https://arxiv.org/abs/2504.10150v1",
    )
    modality_need = ModalityNeed.ANY
    reads_order: ClassVar[bool] = True
    optimizer_spaces: ClassVar[Mapping[str, Space]] = {
        "learning_rate": LogFloatRange(low=1e-5, high=1e-3)
    }
    given = ("network",)
    tried_with: ClassVar[Mapping[str, Value]] = {
        "language_model": RANDOM,
        "embedding_size": 16,
        "candidates": 10,
    }

    class Parameters(ParameterSet):
        language_model: str = parameter(
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "folder of a causal language model with safetensors, or its name on the Hugging Face "
            f"hub; `{RANDOM}`: a few thousand random weights, to try things out",
            min_length=1,
        )
        precision: Precision = parameter("float32", "of the language model's own weights")
        text: str | None = parameter(None, "which of the dataset's texts; by default its first")
        visual: str | None = parameter(
            None,
            "modality that becomes a token; by default image, or the dataset's first; "
            f"`{_NO_VISUAL}`: texts alone",
        )
        embedding_size: int = parameter(
            64, "width of histories and items before the prompt", ge=1, space=(32, 64, 128)
        )
        history_length: int = parameter(
            10, "latest interactions of a user that count", ge=1, space=(5, 10, 20)
        )
        encoder: Literal["gru", "transformer", "mean"] = parameter(
            "gru", "what reads a history; without times it is the mean, whatever is set"
        )
        text_tokens: int = parameter(24, "longer texts are cut", ge=1)
        tuning: Literal["lora", "frozen"] = parameter(
            "lora", "whether adapters in the language model are trained"
        )
        lora_rank: int = parameter(8, "of the adapters", ge=1)
        lora_strength: float = parameter(16.0, "over the rank, factor of an adapter's output", gt=0)
        lora_dropout: float = parameter(0.05, "of what adapters read, in training", ge=0, lt=1)
        first_stage_weight: float = parameter(
            0.1, "weight of the first stage's BPR loss", ge=0, space=(0.01, 0.1, 1.0)
        )
        ranking: Literal["candidates", "all", "first_stage"] = parameter(
            "candidates",
            "candidates: the language model ranks those of the first stage; all: it ranks every "
            "item; first_stage: it ranks none, to be compared with",
        )
        candidates: int = parameter(
            50, "items of the first stage that the language model ranks for each user", ge=1
        )

        @model_validator(mode="after")
        def _has_heads(self) -> HistLLM.Parameters:
            if self.encoder == "transformer" and self.embedding_size % 4:
                raise ValueError("encoder: transformer has 4 heads, which divide embedding_size")
            return self

    network: Any
    """The language model, with adapters where some are trained."""

    @classmethod
    def refusal(cls, dataset: Dataset) -> str | None:
        reason = super().refusal(dataset)
        if reason is None and not dataset.texts:
            return (
                f"{cls.name} needs texts of items, dataset {dataset.name!r} has none; declare them "
                'in its pipeline file, such as `texts: {description: {template: "{title}"}}`'
            )
        return reason

    @classmethod
    def without_effect(cls, dataset: Dataset, fixed: Mapping[str, Value]) -> Mapping[str, Value]:
        return {} if dataset.train.times is not None else {"encoder": "mean", "history_length": 10}

    @classmethod
    def cost(cls, dataset: Dataset, parameters: ParameterSet, pairs: int) -> str:
        assert isinstance(parameters, HistLLM.Parameters)
        language = load_language_model(parameters.language_model, parameters.precision)
        prompts = Prompts(dataset, language, parameters.text, parameters.text_tokens)
        of_item, of_user = prompts.positions()
        of_item += cls._chosen_visual(dataset, parameters.visual) is not None
        asked = {"first_stage": 0, "all": dataset.item_count}
        each = asked.get(parameters.ranking, min(parameters.candidates, dataset.item_count))
        questions = each * len(held_out_users(dataset))
        work = 2 * language.parameter_count
        epoch = 3 * work * 2 * pairs * (of_item + of_user)
        ranking = work * (questions * of_user + min(questions, dataset.item_count) * of_item)
        return (
            f"{cls.name} on {dataset.name}: {2 * pairs:,} prompts of {of_item + of_user:.0f} "
            f"positions in an epoch and {questions:,} questions in a validation, "
            f"{epoch:.1g} and {ranking:.1g} operations; one core at {_CORE / 1e9:.0f} GFLOP/s "
            f"takes {_time(epoch / _CORE)} and {_time(ranking / _CORE)}, a GPU at "
            f"{_GPU / 1e12:.0f} TFLOP/s {_time(epoch / _GPU)} and {_time(ranking / _GPU)}"
        )

    def __init__(self, dataset: Dataset, parameters: Parameters) -> None:
        super().__init__(dataset, parameters)
        self.settings = parameters
        self.visual = self._chosen_visual(dataset, parameters.visual)
        language = load_language_model(parameters.language_model, parameters.precision)
        self.network = language.copied()
        if parameters.tuning == "lora":
            self.network = with_adapters(
                self.network,
                parameters.lora_rank,
                parameters.lora_strength,
                parameters.lora_dropout,
            )
        self.prompts = Prompts(dataset, language, parameters.text, parameters.text_tokens)
        size, width = parameters.embedding_size, language.table.shape[1]
        if self.visual is not None:
            columns = self.features.width(self.visual)
            self.picture_in = linear(columns, width, of_features=True)
            self.picture_out = linear(width, width)
        self.item_map = linear(width if self.visual is None else 2 * width, size)
        self.histories = UserHistories(dataset)
        kind = parameters.encoder if self.histories.ordered else "mean"
        self.encoder = ENCODERS[kind](size, min(parameters.history_length, self.histories.longest))
        self.user_map = linear(size, width)
        norm = language.table.detach().float().norm(dim=1).mean()
        self.scale = nn.Parameter((norm / math.sqrt(width)).cpu())

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        history, there = self._history(batch.users, batch.positives)
        asked = [batch.positives, batch.negatives]
        items, places = torch.unique(torch.cat([history.flatten(), *asked]), return_inverse=True)
        pictures = self._pictures(items)
        vectors = self._vectors(items, pictures)
        in_history, *of_asked = torch.split(places, [history.numel(), *map(len, asked)])
        read = gather_rows(vectors, in_history).view(*history.shape, -1)
        users = self.encoder(read, there)
        both = torch.cat(of_asked)
        shown = None if pictures is None else gather_rows(pictures, both)
        tokens = self._user_tokens(users).repeat(2, 1)
        answers = passed(Signal.LOGITS, self._ask(torch.cat(asked), shown, tokens))
        liked, disliked = torch.split(answers, len(users))
        language = (functional.softplus(-liked) + functional.softplus(disliked)).mean() / 2
        chosen, other = (dot_products(users, gather_rows(vectors, rows)) for rows in of_asked)
        return language + self.settings.first_stage_weight * bpr_loss(chosen, other)

    def scorer(self) -> Scorer:
        everything = torch.arange(self.dataset.item_count, device=self.scale.device)
        pictures = self._pictures(everything)
        vectors = self._vectors(everything, pictures)
        everyone = torch.arange(self.dataset.user_count, device=vectors.device)
        blocks = torch.split(everyone, _USERS_AT_ONCE)
        users = torch.cat([self._users(vectors, block) for block in blocks])
        tokens = self._user_tokens(users)

        def answers(of_users: Tensor, of_items: Tensor) -> Tensor:
            return self.answers(of_users, of_items, tokens, pictures)

        stages = TwoStages(self.dataset, self.histories, users, vectors, answers)
        if self.settings.ranking == "first_stage":
            return stages.first_stage
        if self.settings.ranking == "all":
            return stages.second_stage
        return stages.after_candidates(min(self.settings.candidates, self.dataset.item_count))

    def _users(self, vectors: Tensor, users: Tensor) -> Tensor:
        """What users' whole histories are read as, shape ``[users, embedding_size]``."""
        history, there = self._history(users)
        read: Tensor = self.encoder(vectors[history], there)
        return read

    def _history(self, users: Tensor, before: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Items of each user's history, the oldest first, and whether there are so many, shape
        ``[users, places]``.

        Args:
            users: int64, shape ``[users]``.
            before: An item of each user: only what came before it counts, or without times, only
                the others.
        """
        if self.histories.ordered:
            count = self.settings.history_length
            places, there = self.histories.latest(users, count, before)
        else:
            places, there = self.histories.latest(users, self.histories.longest)
        items = self.histories.items[places]
        if before is not None and not self.histories.ordered:
            there = there & (items != before[:, None])
        return items.flip(1), there.flip(1)

    def _pictures(self, items: Tensor) -> Tensor | None:
        """Items' tokens of the visual modality, shape ``[items, width]``."""
        if self.visual is None:
            return None
        inner = functional.gelu(self.picture_in(self.features.rows(self.visual, items)))
        return self._normed(self.picture_out(inner))

    def _vectors(self, items: Tensor, pictures: Tensor | None) -> Tensor:
        """What histories are made of, shape ``[items, embedding_size]``."""
        texts = self.prompts.means[items]
        joined = texts if pictures is None else torch.cat([texts, pictures], dim=1)
        vectors: Tensor = self.item_map(joined)
        return vectors

    def _user_tokens(self, users: Tensor) -> Tensor:
        return self._normed(self.user_map(users))

    def _normed(self, tokens: Tensor) -> Tensor:
        """Tokens of the usual length of a token."""
        return self.scale * functional.layer_norm(tokens, tokens.shape[-1:])

    def _ask(self, items: Tensor, pictures: Tensor | None, users: Tensor) -> Tensor:
        """How much rather the answer is yes than no, a question per row.

        Args:
            items: int64, shape ``[rows]``.
            pictures: Their tokens, shape ``[rows, width]``.
            users: The users' tokens, shape ``[rows, width]``.
        """
        table = self.network.get_input_embeddings()
        before, mask = self.prompts.of_items(table, items, pictures)
        after = self.prompts.of_users(table, users)
        embedded = torch.cat([before, after], dim=1)
        return _yes_rather_than_no(self._read(embedded, _widened(mask, after), use_cache=False))

    def _read(self, embedded: Tensor, mask: Tensor, **options: Any) -> Any:
        """What the language model makes of tokens.

        Args:
            embedded: Shape ``[rows, positions, width]``.
            mask: Which positions count, those read before among them.
            options: As transformers has them.
        """
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -embedded.shape[1] :]
        return self.network(
            inputs_embeds=embedded, attention_mask=mask.long(), position_ids=positions, **options
        )

    def answers(
        self, users: Tensor, items: Tensor, tokens: Tensor, pictures: Tensor | None
    ) -> Tensor:
        """The language model's answers to pairs, each item's part of the prompt read once.

        Args:
            users: int64, shape ``[pairs]``.
            items: int64, shape ``[pairs]``.
            tokens: All users' tokens, shape ``[users, width]``.
            pictures: All items' tokens, shape ``[items, width]``.

        Returns:
            Shape ``[pairs]``.
        """
        if not len(items):
            return tokens.new_empty(0)
        table = self.network.get_input_embeddings()
        order = items.argsort(stable=True)
        found = tokens.new_empty(len(items))
        at_once = _PAIRS_AT_ONCE.get(items.device.type, _PAIRS_ELSEWHERE)
        for rows in torch.split(order, at_once):
            different, places = torch.unique_consecutive(items[rows], return_inverse=True)
            shown = None if pictures is None else pictures[different]
            before, mask = self.prompts.of_items(table, different, shown)
            past = self._read(before, mask, use_cache=True).cache
            past.batch_select_indices(places)
            after = self.prompts.of_users(table, tokens[users[rows]])
            read = self._read(after, _widened(mask[places], after), cache=past)
            found[rows] = _yes_rather_than_no(read)
        return found

    @staticmethod
    def _chosen_visual(dataset: Dataset, asked: str | None) -> str | None:
        if asked == _NO_VISUAL:
            return None
        if asked is None:
            return "image" if "image" in dataset.features else next(iter(dataset.features))
        if asked not in dataset.features:
            known = ", ".join(dataset.features)
            raise InputError(f"dataset {dataset.name!r} has no modality {asked!r}; it has {known}")
        return asked


def _time(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:,.1f} h"


def _widened(mask: Tensor, tokens: Tensor) -> Tensor:
    """A mask of positions, and of all those that ``tokens`` add."""
    return functional.pad(mask, (0, tokens.shape[1]), value=True)


def _yes_rather_than_no(read: Any) -> Tensor:
    """The difference of the answers' logits after the last position, shape ``[rows]``."""
    answers: Tensor = read.logits[:, -1].float()
    return answers[:, 0] - answers[:, 1]
