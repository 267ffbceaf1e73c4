"""A generated dataset with a known truth, for trying things out and for tests.

Users and items have planted factors. What a user interacts with follows from both factors and from
how popular the item is; every modality shows the item's factors through noise. So features tell
something about items that interactions alone do not, most of all about items with few of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Container, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.config.pipeline import Modality
from mgstudy.data.interactions import TRAIN, RawInteractions, StepRecord
from mgstudy.data.sources.base import Recipe, Source
from mgstudy.data.splitting import split_by_time, split_per_user

DOMAINS = ("left", "right")
FEWEST_INTERACTIONS = 5
"""Per user, as after the published 5-core filter."""
_MOST_SPREAD = 1e6
"""Of what is drawn beside something whose spread is 1: all else is lost in it long before."""
_PAIRS_AT_ONCE = 1 << 22
_DAY = 86_400


class SyntheticModality(BaseModel):
    """How a modality shows the items' factors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    width: int = Field(ge=1, description="columns of the table")
    noise: float = Field(
        1.0,
        ge=0,
        le=_MOST_SPREAD,
        description="standard deviation of the noise, where that of the signal is 1",
    )


class Synthetic(Source):
    """Users and items with planted factors, seen through interactions and modalities."""

    name: ClassVar[str] = "synthetic"

    class Parameters(ParameterSet):
        users: int = parameter(1500, "number of users", ge=1)
        items: int = parameter(800, "number of items", ge=2 * FEWEST_INTERACTIONS)
        interactions_per_user: float = parameter(
            15.0, "mean over users; most have fewer, some many more", ge=FEWEST_INTERACTIONS
        )
        factors: int = parameter(8, "dimensions of the planted factors", ge=1)
        preference: float = parameter(
            2.0,
            "how much the factors decide what a user interacts with; 0 for not at all",
            ge=0,
            le=_MOST_SPREAD,
        )
        popularity_skew: float = parameter(
            1.0,
            "standard deviation of the logarithm of the items' popularity",
            ge=0,
            le=_MOST_SPREAD,
        )
        cold_item_share: float = parameter(
            0.05, "share of items, of the less popular, that training never sees", ge=0, le=0.5
        )
        modalities: dict[Modality, SyntheticModality] = parameter(
            {"image": SyntheticModality(width=64), "text": SyntheticModality(width=32)},
            "modality to its width and noise, in the order of the modalities",
        )
        domains: int = parameter(
            1, "2 for the two domains `left` and `right`, each with half the items", ge=1, le=2
        )
        overlap: float = parameter(
            0.15, "share of the users who are in both domains, the first ones", ge=0, le=1
        )
        domain_rotation: float = parameter(
            0.0,
            "how much the factors of each domain's items are turned, by a map of its own, where "
            "users look at them; features show them as they are, so that transfer becomes harder",
            ge=0,
            le=1,
        )
        times: bool = parameter(
            False,
            "let a user's factors walk from one interaction to the next, a day later, and hold out "
            "the latest; without, interactions have no times and are held out at random",
        )
        drift: float = parameter(
            0.1,
            "standard deviation of each step of that walk; among users it is 1",
            ge=0,
            le=_MOST_SPREAD,
        )
        seed: int = parameter(0, "of everything that is drawn", ge=0)

        @model_validator(mode="after")
        def _enough_items(self) -> Synthetic.Parameters:
            if self.interactions_per_user > self.items // self.domains / 4:
                of_domain = f" of each of {self.domains} domains" if self.domains > 1 else ""
                raise ValueError(
                    f"interactions_per_user ({self.interactions_per_user:g}) must be at most a "
                    f"quarter of items ({self.items}){of_domain}, or nothing is left to recommend"
                )
            return self

    parameters: Parameters

    def interactions_recipe(self) -> Recipe:
        unused = {"modalities"}
        if self._plain:
            unused |= {"domains", "overlap", "domain_rotation"}
        if not self.parameters.times:
            unused |= {"times", "drift"}
        return Recipe(parameters=self.parameters.model_dump(exclude=unused))

    def interactions(self) -> RawInteractions:
        users, items, places = self._draw_interactions()
        cold, of_items = self._cold_items()[items], self._item_domains()
        # Of a user in two domains, each holds out its own.
        owners = users if self._plain else 2 * users + of_items[items]
        if self.parameters.times:
            splits = split_by_time(owners, places)
        else:
            splits = split_per_user(owners, self._generator("split"), held_out_first=cold)
        # A user can have more cold items than held-out interactions; training has none.
        kept = ~(cold & (splits == TRAIN))
        return RawInteractions(
            users=users[kept],
            items=items[kept],
            splits=splits[kept],
            user_count=self.parameters.users,
            item_count=self.parameters.items,
            origin="synthetic source",
            domains=() if self._plain else DOMAINS,
            item_domains=None if self._plain else of_items,
            timestamps=_DAY * places[kept] if self.parameters.times else None,
            steps=(StepRecord(name="generate", rows_in=len(users), rows_out=int(kept.sum())),),
        )

    def feature_recipes(self) -> Mapping[str, Recipe]:
        shared = self.parameters.model_dump(include={"items", "factors", "seed"})
        return {
            modality: Recipe(parameters={**shared, "modality": modality, **settings.model_dump()})
            for modality, settings in self.parameters.modalities.items()
        }

    def features(self, modality: str, item_count: int) -> NDArray[np.floating[Any]]:
        settings = self.parameters.modalities[modality]
        factors = self.item_factors()
        view = self._generator(f"view of {modality}").standard_normal(
            (factors.shape[1], settings.width)
        )
        noise = self._generator(f"noise of {modality}").standard_normal(
            (len(factors), settings.width), dtype=np.float32
        )
        signal = factors @ view / np.sqrt(factors.shape[1])
        table: NDArray[np.float64] = signal + settings.noise * noise
        return table

    def item_recipe(self) -> Recipe:
        return Recipe(parameters=self.parameters.model_dump(include={"items", "factors", "seed"}))

    def item_fields(self) -> list[str]:
        return ["title"]

    def item_records(
        self, fields: Collection[str], wanted: Container[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """Titles made of words for the item's two largest and two smallest factors."""
        for item, factors in enumerate(self.item_factors()):
            order = np.argsort(-factors)
            words = [f"strong-f{factor}" for factor in order[:2]]
            words += [f"weak-f{factor}" for factor in order[-2:][::-1]]
            if str(item) in wanted:
                yield f"synthetic item {item}", str(item), {"title": " ".join(words)}

    def user_factors(self) -> NDArray[np.float64]:
        """The planted factors, standard normal, shape ``[users, factors]``."""
        shape = (self.parameters.users, self.parameters.factors)
        return self._generator("user factors").standard_normal(shape)

    def item_factors(self) -> NDArray[np.float64]:
        """The planted factors, standard normal, shape ``[items, factors]``."""
        shape = (self.parameters.items, self.parameters.factors)
        return self._generator("item factors").standard_normal(shape)

    def _draw_interactions(self) -> tuple[NDArray[np.int64], ...]:
        """Draw each user's items without replacement, with probability proportional to
        ``exp(popularity + preference * <user, item> / sqrt(factors))``.

        The items with the highest sum of log-probability and standard Gumbel noise are such a
        draw (Efraimidis & Spirakis, 2006; the Gumbel top-k trick), so a block of users is drawn
        at once; one item of each at a time where users walk.

        Returns:
            User, item, and place in the user's history in its domain, of each interaction.
        """
        settings = self.parameters
        user_factors, item_factors = self.user_factors(), self._seen_factors()
        popularity, of_items = self._popularity(), self._item_domains()
        owners, domains = self._histories()
        user_factors = user_factors[owners]
        sizes = self._history_sizes(len(owners))
        generator = self._generator("interactions")
        block = max(1, _PAIRS_AT_ONCE // settings.items)
        items = []
        for start in range(0, len(owners), block):
            rows, wanted = user_factors[start : start + block], sizes[start : start + block]
            allowed = domains[start : start + block, None] == of_items
            most = int(wanted.max())

            def scores(rows: NDArray[np.float64], allowed: NDArray[np.bool_]) -> Any:
                drawn = rows @ item_factors.T * (settings.preference / np.sqrt(settings.factors))
                drawn += popularity
                drawn -= np.log(generator.standard_exponential(drawn.shape))
                drawn[~allowed] = -np.inf
                return drawn

            if settings.times:
                best = np.zeros((len(rows), most), dtype=np.int64)
                for place in range(most):
                    (left,) = np.nonzero(wanted > place)
                    steps = generator.standard_normal((len(left), settings.factors))
                    rows[left] += settings.drift * steps
                    best[left, place] = scores(rows[left], allowed[left]).argmax(axis=1)
                    allowed[left, best[left, place]] = False
            else:
                drawn = scores(rows, allowed)
                best = np.argpartition(-drawn, most - 1, axis=1)[:, :most]
                order = np.argsort(-np.take_along_axis(drawn, best, axis=1), axis=1)
                best = np.take_along_axis(best, order, axis=1)
            items.append(best[np.arange(most) < wanted[:, None]])
        places = np.concatenate([np.arange(size) for size in sizes])
        return np.repeat(owners, sizes), np.concatenate(items).astype(np.int64), places

    @property
    def _plain(self) -> bool:
        """Whether there is one domain."""
        return self.parameters.domains == 1

    def _item_domains(self) -> NDArray[np.int8]:
        items, domains = self.parameters.items, self.parameters.domains
        return (np.arange(items) * domains // items).astype(np.int8)

    def _histories(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """User and domain of each history: one of every user, or two of a user in both domains."""
        users = self.parameters.users
        owners = np.arange(users, dtype=np.int64)
        if self._plain:
            return owners, np.zeros(users, dtype=np.int64)
        drawn = self._generator("domains").integers(2, size=users)
        both = owners[: math.ceil(self.parameters.overlap * users)]
        in_left = np.union1d(both, owners[drawn == 0])
        in_right = np.union1d(both, owners[drawn == 1])
        domains = np.repeat([0, 1], [len(in_left), len(in_right)])
        return np.concatenate([in_left, in_right]), domains

    def _seen_factors(self) -> NDArray[np.float64]:
        """The items' factors as users look at them."""
        factors, turned = self.item_factors(), self.parameters.domain_rotation
        if self._plain or not turned:
            return factors
        of_items = self._item_domains()
        for domain, name in enumerate(DOMAINS):
            square = self._generator(f"rotation of {name}").standard_normal(
                (self.parameters.factors,) * 2
            )
            rotation, _ = np.linalg.qr(square)
            own = factors[of_items == domain]
            mixed = (1 - turned) * own + turned * own @ rotation
            factors[of_items == domain] = mixed / np.hypot(1 - turned, turned)
        return factors

    def _history_sizes(self, count: int) -> NDArray[np.int64]:
        """Interactions of each history: at least ``FEWEST_INTERACTIONS``, the rest log-normal."""
        settings = self.parameters
        drawn = self._generator("history sizes").lognormal(mean=-0.5, sigma=1, size=count)
        extra = np.rint((settings.interactions_per_user - FEWEST_INTERACTIONS) * drawn)
        sizes = FEWEST_INTERACTIONS + extra.astype(np.int64)
        return np.minimum(sizes, settings.items // settings.domains // 2)

    def _popularity(self) -> NDArray[np.float64]:
        """Logarithm of how popular each item is, whoever the user."""
        normal = self._generator("popularity").standard_normal(self.parameters.items)
        return self.parameters.popularity_skew * normal

    def _cold_items(self) -> NDArray[np.bool_]:
        """Items to keep out of training, drawn from the least popular ones: were they popular,
        most held-out interactions would be with cold items."""
        settings = self.parameters
        count = round(settings.cold_item_share * settings.items)
        pool = np.argsort(self._popularity())[: max(count, settings.items // 2)]
        cold = np.zeros(settings.items, dtype=np.bool_)
        cold[self._generator("cold items").choice(pool, size=count, replace=False)] = True
        return cold

    def _generator(self, purpose: str) -> np.random.Generator:
        """A stream of its own for each purpose, so that changing one part changes no other."""
        stream = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:8])
        return np.random.default_rng([self.parameters.seed, stream])
