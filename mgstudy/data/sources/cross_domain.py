"""Two sources as the domains of one dataset, whose users are the same people where both know them.

What a user did in one domain then tells about the other. How much is known of who is who is a
setting: it is what studies of transfer vary.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
)

from mgstudy.config.factors import LONGEST_NAME
from mgstudy.config.metrics import GROUPS
from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.config.pipeline import MODALITY_PATTERN, SourceConfig
from mgstudy.data.interactions import RawInteractions, StepRecord
from mgstudy.data.sources.base import DuplicateItems, Recipe, Source, rows_of, sources
from mgstudy.data.steps.reindex import Reindex
from mgstudy.errors import InputError

Read = TypeVar("Read")


def _no_group(name: str) -> str:
    if name in GROUPS:
        raise ValueError(
            f"{name!r} is a group that metrics are asked of; call the domain otherwise"
        )
    return name


DomainName = Annotated[
    str,
    StringConstraints(pattern=MODALITY_PATTERN, max_length=LONGEST_NAME),
    AfterValidator(_no_group),
]
"""Metrics are named by it, as ``recall-NAME``."""


class Domain(SourceConfig):
    """A domain: a source with its settings, and which of its items are meant."""

    only: dict[str, list[str]] = Field(
        {}, description="field of the items' records to values, of which an item must have one each"
    )
    without: dict[str, list[str]] = Field(
        {}, description="field of the items' records to values, of which an item must have none"
    )


def _known(declared: Domain) -> Domain:
    """Refuse what the domain's source refuses, where it stands."""
    if declared.kind == CrossDomain.name:
        raise ValueError("a domain cannot consist of domains")
    try:
        _settings(declared)
    except InputError as error:
        raise ValueError(str(error)) from None
    return declared


def _duplicate_items(domains: Mapping[str, Domain]) -> dict[str, DuplicateItems]:
    """What becomes of an item with two records, in the domains whose sources can be told."""
    settings = {name: _settings(declared) for name, declared in domains.items()}
    return {
        name: of_source.duplicate_items
        for name, of_source in settings.items()
        if hasattr(of_source, "duplicate_items")
    }


def _settings(declared: Domain) -> ParameterSet:
    """The settings of a domain's source."""
    return sources.get(declared.kind).Parameters.model_validate(declared.parameters)


class KnownOverlap(BaseModel):
    """Of how many users of both domains it is known that they are the same."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    share: float = Field(
        1.0, ge=0, le=1, description="share of the users of both domains who keep one id"
    )
    seed: int = Field(0, ge=0, description="of the draw")


class CrossDomain(Source):
    """Two sources as domains that share users; the steps act on each domain for itself."""

    name: ClassVar[str] = "cross_domain"

    class Parameters(ParameterSet):
        domains: dict[DomainName, Annotated[Domain, AfterValidator(_known)]] = parameter(
            ..., "two names, each to the domain's source and its settings"
        )
        known_overlap: KnownOverlap = parameter(
            KnownOverlap(),
            "of how many users of both domains it is known: the others become two users each",
        )
        prefix_items: bool = parameter(
            True,
            "put the domain's name before what its items are called, as `toys:B0001`. Without, "
            "both domains must call their items differently; encoders of files find them then",
        )
        shared_numbers: bool = parameter(
            False,
            "take equal numbers for the same person where a source numbers its users itself",
        )

        @field_validator("domains")
        @classmethod
        def _are_two(cls, domains: dict[str, Domain]) -> dict[str, Domain]:
            if len(domains) != 2:
                raise ValueError(f"expected two domains, got {', '.join(domains) or 'none'}")
            choices = _duplicate_items(domains)
            if len(set(choices.values())) > 1:
                said = " and ".join(
                    f"source.domains.{name}.duplicate_items is {choice}"
                    for name, choice in choices.items()
                )
                raise ValueError(f"{said}; set both alike")
            return domains

    parameters: Parameters

    def __init__(self, parameters: ParameterSet) -> None:
        super().__init__(parameters)
        if choices := _duplicate_items(self.parameters.domains):
            self.duplicate_items = next(iter(choices.values()))
            names = [f"source.domains.{name}.duplicate_items" for name in choices]
            self.duplicate_items_setting = " and ".join(names)

    @cached_property
    def _sources(self) -> dict[str, Source]:
        made = {}
        for name, declared in self.parameters.domains.items():
            made[name] = sources.get(declared.kind)(_settings(declared))
            made[name].progress = self.progress
        return made

    @cached_property
    def _read(self) -> dict[str, RawInteractions]:
        """All interactions of each source, read once: whatever is asked of rows needs them."""
        return {name: source.interactions() for name, source in self._sources.items()}

    def resolved(self) -> CrossDomain:
        found = {
            name: declared.model_copy(
                update=self._sources[name].resolved().parameters.model_dump(mode="json")
            )
            for name, declared in self.parameters.domains.items()
        }
        return CrossDomain(self.parameters.model_copy(update={"domains": found}))

    def interactions_recipe(self) -> Recipe:
        settings = self.parameters
        chosen: dict[str, Any] = {
            name: declared.model_dump(include={"only", "without"})
            for name, declared in settings.domains.items()
        }
        recipe = self._joined_recipe(lambda part: part.interactions_recipe())
        if any(declared.only or declared.without for declared in settings.domains.values()):
            records = self.item_recipe()
            chosen = {"domains": chosen, "records": dict(records.parameters)}
            recipe = Recipe(
                recipe.parameters,
                {**recipe.files, **_renamed(records.files, "records")},
                {**recipe.folders, **_renamed(records.folders, "records")},
            )
        own = settings.model_dump(include={"known_overlap", "prefix_items", "shared_numbers"})
        # The first domain's users and items come first; keys of a mapping have no order.
        own["order"] = list(settings.domains)
        return replace(recipe, parameters={**recipe.parameters, "chosen": chosen, **own})

    def interactions(self) -> RawInteractions:
        return self.joined(self.domain_interactions())

    def domain_interactions(self) -> dict[str, RawInteractions]:
        found = {}
        for name, source in self._sources.items():
            read = self._read[name]
            if read.user_keys is None and not self.parameters.shared_numbers:
                raise InputError(
                    f"{read.origin}: the source {source.name!r} numbers its users itself, so "
                    "nobody knows who of them is in the other domain; set source.shared_numbers: "
                    "true if equal numbers are the same person in both"
                )
            found[name] = self._chosen(name, read)
        return found

    def joined(self, domains: Mapping[str, RawInteractions]) -> RawInteractions:
        (left, right), (first, second) = domains, domains.values()
        known = self.parameters.known_overlap
        keys = [_keys(part.user_keys, part.user_count) for part in (first, second)]
        users = [dict(zip(those, range(len(those)), strict=True)) for those in keys]
        occur = [set(np.unique(part.users).tolist()) for part in (first, second)]
        both = [
            (id_, users[1][key])
            for key, id_ in users[0].items()
            if key in users[1] and id_ in occur[0] and users[1][key] in occur[1]
        ]
        if not both:
            raise InputError(
                f"the domains {left} ({first.origin}) and {right} ({second.origin}) share no user: "
                f"one calls them {keys[0][0]!r}, the other {keys[1][0]!r}, for example"
            )
        drawn = np.random.default_rng(known.seed).permutation(len(both))
        kept = [both[position] for position in drawn[: round(known.share * len(both))]]
        new_ids = np.full(second.user_count, -1, dtype=np.int64)
        for of_first, of_second in kept:
            new_ids[of_second] = of_first
        others = np.flatnonzero(new_ids < 0)
        new_ids[others] = first.user_count + np.arange(len(others))
        # Whoever is not known to be the same is called otherwise.
        called = [
            f"{right}:{key}" if key in users[0] else key for key in map(keys[1].__getitem__, others)
        ]
        user_keys = [*keys[0], *called]
        item_keys = self._item_keys(domains)
        for what, names in (("a user", user_keys), ("an item", item_keys)):
            if twice := [key for key, count in Counter(names).items() if count > 1]:
                raise InputError(
                    f"{left} and {right} both have {what} that is called {twice[0]!r}; set "
                    "source.prefix_items: true or call one of the domains otherwise"
                )
        step = StepRecord(
            name=f"join {left} and {right}",
            rows_in=len(first) + len(second),
            rows_out=len(first) + len(second),
            counts={
                f"users of {left}": len(occur[0]),
                f"users of {right}": len(occur[1]),
                "users of both": len(both),
                "users known in both": len(kept),
            },
        )
        records = [
            record.model_copy(update={"name": f"{name}: {record.name}"})
            for name, part in domains.items()
            for record in part.steps
        ]
        sizes = [first.item_count, second.item_count]
        return RawInteractions(
            users=np.concatenate([first.users, new_ids[second.users]]),
            items=np.concatenate([first.items, second.items + first.item_count]),
            splits=np.concatenate([first.splits, second.splits]),
            user_count=len(user_keys),
            item_count=sum(sizes),
            origin=f"{first.origin} and {second.origin}",
            steps=(*records, step),
            ratings=_both(first.ratings, second.ratings),
            timestamps=_both(first.timestamps, second.timestamps),
            user_keys=pa.array(user_keys, pa.string()),
            item_keys=pa.array(item_keys, pa.string()),
            domains=tuple(domains),
            item_domains=np.repeat(np.arange(2, dtype=np.int8), sizes),
        )

    def feature_recipes(self) -> Mapping[str, Recipe]:
        of_domains = {name: part.feature_recipes() for name, part in self._sources.items()}
        (left, first), (right, second) = of_domains.items()
        for modality in dict.fromkeys([*first, *second]):
            for name, recipes in of_domains.items():
                if modality not in recipes:
                    raise InputError(
                        f"the domain {name} brings no features of the modality {modality!r}, which "
                        f"{right if name == left else left} has; both must"
                    )
        return {
            modality: self._joined_recipe(partial(_feature_recipe, modality)) for modality in first
        }

    def features(self, modality: str, item_count: int) -> NDArray[np.floating[Any]]:
        tables = [
            part.features(modality, self._read[name].item_count)
            for name, part in self._sources.items()
        ]
        widths = [table.shape[1] for table in tables]
        if len(set(widths)) > 1:
            (left, right), (wide, other) = self._sources, widths
            raise InputError(
                f"{modality} has {wide:,} columns in {left} and {other:,} in {right}: a modality "
                "must be of one encoder in both domains"
            )
        encodings = [part.encoding(modality) for part in self._sources.values()]
        if encodings[0] != encodings[1]:
            left, right = self._sources
            raise InputError(
                f"{modality} was not encoded alike in {left} ({encodings[0]}) and {right} "
                f"({encodings[1]}): columns of one would be taken for those of the other; join "
                "the raw data instead, and encode it together"
            )
        return np.concatenate(tables)

    def observed(self, modality: str, item_count: int) -> NDArray[np.bool_]:
        of_domains = [
            part.observed(modality, self._read[name].item_count)
            for name, part in self._sources.items()
        ]
        return np.concatenate(of_domains)

    def feature_rows(self, keys: pa.Array) -> NDArray[np.int64]:
        return rows_of(keys, self._item_keys(self._read))

    def item_recipe(self) -> Recipe:
        return self._joined_recipe(lambda part: part.item_recipe())

    def item_fields(self) -> list[str]:
        return list(
            dict.fromkeys(field for part in self._sources.values() for field in part.item_fields())
        )

    def item_records(
        self, fields: Collection[str], wanted: Container[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        prefixed = self.parameters.prefix_items
        # Without a prefix, another domain's items of the same file would be there twice.
        domains = {} if prefixed else self.domain_interactions()
        for name, part in self._sources.items():
            prefix, of_domain = f"{name}:" if prefixed else "", wanted
            if not prefixed:
                own = _keys(domains[name].item_keys, domains[name].item_count)
                of_domain = {key for key in own if key in wanted}
            yielded = filled = 0
            for place, item, record in part.item_records(fields, _Prefixed(prefix, of_domain)):
                yielded += 1
                filled += any(record.get(field) for field in fields)
                yield place, f"{prefix}{item}", record
            if yielded and fields and not filled:
                raise InputError(
                    f"{part.item_origin()}: no item of the domain {name} has any of "
                    f"{', '.join(fields)}; a modality must be there in both domains"
                )

    def place(self, modality: str, row: int, column: int) -> str:
        for name, part in self._sources.items():
            count = self._read[name].item_count
            if row < count:
                return part.place(modality, row, column)
            row -= count
        raise IndexError(row)

    def _item_keys(self, domains: Mapping[str, RawInteractions]) -> list[str]:
        return [
            f"{name}:{key}" if self.parameters.prefix_items else key
            for name, part in domains.items()
            for key in _keys(part.item_keys, part.item_count)
        ]

    def _chosen(self, name: str, read: RawInteractions) -> RawInteractions:
        """The interactions with the items that are meant."""
        declared = self.parameters.domains[name]
        if not (declared.only or declared.without):
            return read
        keys = _keys(read.item_keys, read.item_count)
        fields = {*declared.only, *declared.without}
        meant = {
            item
            for _, item, record in self._sources[name].item_records(fields, set(keys))
            if all(_values(record.get(field)) & set(v) for field, v in declared.only.items())
            and not any(
                _values(record.get(field)) & set(v) for field, v in declared.without.items()
            )
        }
        kept = np.array([key in meant for key in keys])[read.items]
        if not kept.any():
            raise InputError(
                f"{read.origin}: the domain {name} has no interactions with items of "
                f"only: {declared.only}, without: {declared.without}"
            )
        # What is left has ids of its own, so that others are not taken for items of the domain.
        return Reindex(Reindex.Parameters()).apply(read.kept(kept, f"keep items of {name}"))

    def _joined_recipe(self, of: Callable[[Source], Recipe]) -> Recipe:
        recipes = {name: of(part) for name, part in self._sources.items()}
        parameters = {
            name: {
                "source": self._sources[name].name,
                "version": self._sources[name].version,
                "parameters": dict(recipe.parameters),
            }
            for name, recipe in recipes.items()
        }
        files: dict[str, Path] = {}
        folders: dict[str, Sequence[Path]] = {}
        for name, recipe in recipes.items():
            files |= _renamed(recipe.files, name)
            folders |= _renamed(recipe.folders, name)
        return Recipe({"domains": parameters}, files, folders)


class _Prefixed(Container[str]):
    """The items that are wanted of a domain, as it calls them itself."""

    def __init__(self, prefix: str, wanted: Container[str]) -> None:
        self._prefix, self._wanted = prefix, wanted

    def __contains__(self, item: object) -> bool:
        return f"{self._prefix}{item}" in self._wanted


def _feature_recipe(modality: str, part: Source) -> Recipe:
    return part.feature_recipes()[modality]


def _renamed(roles: Mapping[str, Read], name: str) -> dict[str, Read]:
    return {f"{name}.{role}": read for role, read in roles.items()}


def _keys(keys: pa.Array | None, count: int) -> list[str]:
    # Where the raw data counts from 0 itself, its ids are what it calls them.
    return [str(id_) for id_ in range(count)] if keys is None else keys.to_pylist()


def _values(value: Any) -> set[str]:
    return set(map(str, value)) if isinstance(value, list | tuple) else {str(value)}


def _both(first: NDArray[Any] | None, second: NDArray[Any] | None) -> NDArray[Any] | None:
    return None if first is None or second is None else np.concatenate([first, second])
