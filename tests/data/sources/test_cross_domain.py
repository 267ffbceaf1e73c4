from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgstudy.config.document import parse_document
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.description import describe_dataset
from mgstudy.data.encoder import Items
from mgstudy.data.layouts import read_ids
from mgstudy.data.loading import load_dataset
from mgstudy.data.pipeline import validate_pipeline
from mgstudy.data.prepare import prepare
from mgstudy.data.sources.cross_domain import CrossDomain
from mgstudy.data.sources.recbole import RecBole
from mgstudy.errors import InputError
from mgstudy.files import no_progress
from mgstudy.report.console.dataset_description import description_text
from mgstudy.workspace import Workspace

USERS = {"books": range(12), "films": range(8, 20)}
"""Users 8 to 11 are in both domains."""


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """Two folders of RecBole files: every user has six of the domain's eight items."""
    made = {}
    for name, users in USERS.items():
        folder = made[name] = tmp_path / name
        folder.mkdir()
        rows = ["user_id:token\titem_id:token\ttimestamp:float"]
        rows += [f"u{user}\ti{(user + n) % 8}\t{n}" for user in users for n in range(6)]
        (folder / f"{name}.inter").write_text("\n".join(rows) + "\n", "utf-8")
        items = ["item_id:token\ttitle:token_seq\tclass:token_seq"]
        items += [f"i{n}\t{name} number {n}\t{'odd' if n % 2 else 'even'} all" for n in range(8)]
        (folder / f"{name}.item").write_text("\n".join(items) + "\n", "utf-8")
    return made


def settings_of(folders: dict[str, Path], **settings: Any) -> dict[str, Any]:
    domains = {name: {"kind": "recbole", "path": str(path)} for name, path in folders.items()}
    return {"domains": domains, **settings}


def source_of(folders: dict[str, Path], **settings: Any) -> CrossDomain:
    declared = settings_of(folders, **settings)
    return CrossDomain(CrossDomain.Parameters.model_validate(declared)).resolved()


def pipeline(folders: dict[str, Path], **settings: Any) -> PipelineConfig:
    return PipelineConfig.model_validate(
        {
            "name": "both",
            "source": {"kind": "cross_domain", **settings_of(folders, **settings)},
            "steps": [{"k_core": {"users": 6, "items": 2}}, "reindex", {"split_leave_out": {}}],
            "features": {"text": {"encoder": "tfidf_svd", "template": "{title}", "dimensions": 2}},
        }
    )


def test_users_of_both_domains_keep_one_id_and_items_none(folders) -> None:
    joined = source_of(folders).interactions()
    assert (joined.user_count, joined.item_count) == (20, 16)
    keys = joined.user_keys.to_pylist()
    assert keys == [f"u{user}" for user in range(20)]
    assert joined.item_keys.to_pylist()[7:9] == ["books:i7", "films:i0"]
    assert joined.domains == ("books", "films")
    assert np.array_equal(joined.item_domains, np.repeat([0, 1], 8))
    user_9 = joined.items[joined.users == 9]
    assert sorted(joined.item_domains[user_9].tolist()) == [0] * 6 + [1] * 6
    assert joined.steps[-1].counts == {
        "users of books": 12,
        "users of films": 12,
        "users of both": 4,
        "users known in both": 4,
    }


@pytest.mark.parametrize(("share", "known"), [(0.5, 2), (0.25, 1), (0.0, 0)])
def test_of_the_users_of_both_domains_a_share_is_known_and_a_smaller_one_is_part_of_it(
    folders, share: float, known: int
) -> None:
    def known_in_both(share: float, seed: int = 0) -> set[int]:
        source = source_of(folders, known_overlap={"share": share, "seed": seed})
        joined = source.interactions()
        assert joined.user_count == 24 - round(4 * share)
        assert len(set(joined.user_keys.to_pylist())) == joined.user_count
        domains = joined.item_domains[joined.items]
        left, right = (set(joined.users[domains == domain].tolist()) for domain in (0, 1))
        assert len(left) == len(right) == 12
        return left & right

    assert len(known_in_both(share)) == known
    assert known_in_both(share) <= known_in_both(0.5)
    assert len({frozenset(known_in_both(0.5, seed)) for seed in range(8)}) > 1


def test_steps_act_on_each_domain_and_the_dataset_knows_its_domains(folders, tmp_path) -> None:
    workspace = Workspace(tmp_path / "home")
    config = pipeline(folders, known_overlap={"share": 0.5, "seed": 0})
    manifest = prepare(config, workspace)
    dataset = load_dataset(workspace, "both")
    assert dataset.domains == ("books", "films")
    keys = read_ids(workspace.tables / f"{manifest.id_maps['item_ids'].key}.parquet").to_pylist()
    names = [key.partition(":")[0] for key in keys]
    assert [dataset.domains[domain] for domain in dataset.item_domains] == names
    # Each user holds out one interaction of each domain, and two of both in both.
    domains = dataset.item_domains[dataset.test.items]
    assert np.bincount(domains).tolist() == [12, 12]
    assert int(dataset.trained_in.all(axis=1).sum()) == 2
    described = describe_dataset(workspace, "both")
    assert described.domains["films"].users == 12 and described.domains["films"].items == 8
    assert described.domains["films"].known_in_others == 2
    assert "domain books: 12 users, 8 items, " in description_text(described)
    assert prepare(config, workspace) == manifest
    other = prepare(pipeline(folders, known_overlap={"share": 1.0}), workspace)
    assert other.interactions.key != manifest.interactions.key
    assert load_dataset(workspace, "both").user_count == 20


def test_a_domain_is_of_the_items_that_are_meant(folders) -> None:
    settings = settings_of(folders)
    both = {"kind": "recbole", "path": str(folders["books"])}
    settings["domains"] = {
        "odd": {**both, "only": {"class": ["odd"]}},
        "even": {**both, "only": {"class": ["all"]}, "without": {"class": ["odd"]}},
    }
    settings["prefix_items"] = False
    joined = CrossDomain(CrossDomain.Parameters.model_validate(settings)).resolved().interactions()
    keys, domains = joined.item_keys.to_pylist(), joined.item_domains.tolist()
    assert sorted(zip(domains, keys, strict=True)) == [
        *((0, f"i{n}") for n in (1, 3, 5, 7)), *((1, f"i{n}") for n in (0, 2, 4, 6)),
    ]  # fmt: skip
    assert len(joined) == 72 and set(joined.items.tolist()) == set(range(8))
    # Both domains read the same file, each its own items of it.
    source = CrossDomain(CrossDomain.Parameters.model_validate(settings)).resolved()
    records = [(item, record["title"]) for _, item, record in source.item_records(["title"], keys)]
    assert sorted(records) == [(f"i{n}", ["books", "number", str(n)]) for n in range(8)]


def test_items_that_both_domains_call_alike_need_a_prefix(folders) -> None:
    with pytest.raises(InputError, match="both have an item that is called 'i0'"):
        source_of(folders, prefix_items=False).interactions()


def test_the_order_of_the_domains_is_part_of_what_is_made(folders, tmp_path) -> None:
    workspace = Workspace(tmp_path / "home")
    prepare(pipeline(folders), workspace)
    prepare(pipeline(dict(reversed(folders.items()))), workspace)
    assert load_dataset(workspace, "both").domains == ("films", "books")


def test_two_records_of_an_item_are_what_both_domains_say(folders) -> None:
    path = folders["films"] / "films.item"
    path.write_text(path.read_text("utf-8") + "i0\tagain\tall\n", "utf-8")

    def titles(choice: str | None) -> list[Any]:
        declared = settings_of(folders)
        for domain in declared["domains"].values():
            domain.update({} if choice is None else {"duplicate_items": choice})
        source = CrossDomain(CrossDomain.Parameters.model_validate(declared)).resolved()
        keys = source.interactions().item_keys
        records = Items(len(keys), keys, source, no_progress).records(["title"])
        first = keys.to_pylist().index("films:i0")
        return [record["title"] for item, record in records if item == first]

    assert titles("first") == [["films", "number", "0"]]
    assert titles("last")[-1] == ["again"]
    settings = (
        "source.domains.books.duplicate_items and source.domains.films.duplicate_items to first"
    )
    with pytest.raises(InputError, match=f"'films:i0' has a record already; set {settings}"):
        titles(None)


def test_domains_without_a_user_in_common_are_refused(folders) -> None:
    path = folders["films"] / "films.inter"
    path.write_text(path.read_text("utf-8").replace("\nu", "\nv"), "utf-8")
    with pytest.raises(InputError, match=r"books \(.*\) and films \(.*\) share no user: .*'v8'"):
        source_of(folders).interactions()


def test_a_source_that_numbers_its_users_itself_is_refused_unless_that_is_said(tmp_path) -> None:
    domains = {}
    for name in ("left", "right"):
        folder = tmp_path / name
        folder.mkdir()
        rows = ["userID\titemID\tx_label", "0\t0\t0", "0\t1\t1", "1\t1\t0", "1\t0\t2"]
        (folder / "x.inter").write_text("\n".join(rows) + "\n", "utf-8")
        width = 3 if name == "left" else 4
        np.save(folder / "image_feat.npy", np.ones((2, width), dtype=np.float32))
        domains[name] = {"kind": "mmrec", "path": str(folder)}

    def source(**settings: Any) -> CrossDomain:
        declared = {"domains": domains, **settings}
        return CrossDomain(CrossDomain.Parameters.model_validate(declared)).resolved()

    with pytest.raises(InputError, match=r"numbers its users itself.*set source.shared_numbers"):
        source().interactions()
    shared = source(shared_numbers=True)
    assert shared.interactions().user_count == 2
    with pytest.raises(InputError, match="image has 3 columns in left and 4 in right"):
        shared.features("image", 4)
    np.save(tmp_path / "right" / "image_feat.npy", np.zeros((2, 3), dtype=np.float32))
    assert shared.features("image", 4)[:, 0].tolist() == [1, 1, 0, 0]
    keys = shared.interactions().item_keys
    assert shared.feature_rows(keys.take([3, 0])).tolist() == [3, 0]
    (tmp_path / "right" / "image_feat.npy").unlink()
    with pytest.raises(InputError, match="right brings no features of the modality 'image'"):
        source(shared_numbers=True).feature_recipes()


def test_records_that_one_domain_lacks_are_refused(folders) -> None:
    path = folders["films"] / "films.item"
    path.write_text(path.read_text("utf-8").replace("title", "name"), "utf-8")
    source = source_of(folders)
    wanted = set(source.interactions().item_keys.to_pylist())
    with pytest.raises(InputError, match="no item of the domain films has any of title"):
        list(source.item_records(["title"], wanted))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("books: {kind: recbole, path: x}", "expected two domains, got books"),
        ("books: {kind: recbole, path: x}, books: {kind: recbole, path: y}", "books"),
        ("books: {kind: recbole, path: x}, tail: {kind: recbole, path: y}", "is a group"),
        ("a: {kind: recbole}, b: {kind: recbole, path: y}", "source.domains.a.path"),
        ("a: {kind: rekbole, path: x}, b: {kind: recbole, path: y}", "recbole"),
        ("a: {kind: cross_domain}, b: {kind: recbole, path: y}", "cannot consist of domains"),
        (
            "a: {kind: recbole, path: x, duplicate_items: last}, b: {kind: recbole, path: y}",
            "source.domains.b.duplicate_items is error",
        ),
        ("a: {kind: recbole, path: x, pth: 1}, b: {kind: recbole, path: y}", "pth"),
    ],
)
def test_what_is_wrong_in_a_pipeline_file_is_said_with_its_line(text: str, message: str) -> None:
    content = f"name: both\nsource:\n  kind: cross_domain\n  domains: {{{text}}}\n"
    with pytest.raises(InputError) as refused:
        document = parse_document(content, "file.yaml")
        validate_pipeline(document.validate(PipelineConfig), document)
    assert message in str(refused.value)
    assert "file.yaml:4" in str(refused.value)


def test_what_was_found_is_written_down(folders) -> None:
    source = source_of(folders)
    written = json.loads(source.parameters.model_dump_json())
    again = CrossDomain(CrossDomain.Parameters.model_validate(written))
    assert again.interactions_recipe() == source.interactions_recipe()
    assert written["domains"]["books"]["dataset"] == "books"
    assert isinstance(again._sources["books"], RecBole)


def test_beauty_and_toys_share_the_users_that_their_read_me_says(shared_data: Path) -> None:
    folder = shared_data / "amazon-beauty-sports-toys"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    joined = source_of({"beauty": folder / "beauty", "toys": folder / "toys"}).interactions()
    assert joined.steps[-1].counts["users of both"] == 2073
    assert joined.user_count == 22363 + 19412 - 2073
    assert joined.item_count == 12101 + 11924
