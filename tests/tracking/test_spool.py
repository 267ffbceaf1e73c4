from __future__ import annotations

from pathlib import Path

import pytest

from mgstudy.errors import MgstudyError
from mgstudy.tracking.spool import Spool


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "events.jsonl"


def told(spool: Spool) -> list[tuple[str, str, int | None]]:
    return [(event["event"], event["trial"], event.get("step")) for event, _ in spool.pending()]


def test_every_event_is_kept_once_over_launches(path: Path) -> None:
    for last in (2, 3):
        spool = Spool(path)
        spool.start("a/0", {"cell": "a"})
        for step in range(1, last + 1):
            spool.report("a/0", step, {"x": 0.5})
        spool.finish("a/0", "complete", {"reason": f"launch {last}"})
    spool = Spool(path)
    assert told(spool) == [
        ("started", "a/0", None),
        ("reported", "a/0", 1),
        ("reported", "a/0", 2),
        ("finished", "a/0", None),
        ("reported", "a/0", 3),
    ]
    assert spool.appended == 5
    assert spool.known.trials == {"a/0": {"cell": "a"}}


def test_what_is_delivered_is_remembered_and_can_be_forgotten(path: Path) -> None:
    spool = Spool(path)
    for step in (1, 2, 3):
        spool.report("a/0", step, {})
    _, place = list(spool.pending())[1]
    spool.mark_delivered(place, 2)
    again = Spool(path)
    assert told(again) == [("reported", "a/0", 3)]
    assert (again.appended, again.delivered) == (3, 2)
    again.report("a/0", 4, {})
    assert [step for _, _, step in told(again)] == [3, 4]
    again.rewind()
    assert [step for _, _, step in told(Spool(path))] == [1, 2, 3, 4]


def test_no_trial_ends_before_it_began_when_the_clock_is_set_back(path: Path) -> None:
    Spool(path).start("a/0", {})
    (began,) = (event["at"] for event, _ in Spool(path).pending())
    ahead = began + 3_600_000
    path.write_text(path.read_text().replace(str(began), str(ahead)))
    spool = Spool(path)
    spool.finish("a/0", "complete", {})
    spool.start("a/1", {})
    times = [event["at"] for event, _ in spool.pending()]
    assert times[:2] == [ahead, ahead]
    # Another trial is not held up by the wrong time.
    assert began <= times[2] < ahead


def test_half_a_line_of_a_killed_writer_is_cut_off(path: Path) -> None:
    spool = Spool(path)
    spool.report("a/0", 1, {"long": 0.5, "text": 1.0})
    whole = path.read_bytes()
    for length in (1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole + whole[:length])
        again = Spool(path)
        again.report("a/0", 2, {})
        assert [step for _, _, step in told(Spool(path))] == [1, 2]
        path.write_bytes(whole)
    path.write_bytes(whole[:10])
    assert told(Spool(path)) == []
    assert path.read_bytes() == b""


def test_a_mark_of_a_longer_file_says_nothing(path: Path) -> None:
    spool = Spool(path)
    spool.report("a/0", 1, {})
    spool.mark_delivered(path.stat().st_size, 1)
    path.unlink()
    assert Spool(path).delivered == 0


def test_damage_in_the_middle_is_said(path: Path) -> None:
    spool = Spool(path)
    spool.report("a/0", 1, {})
    path.write_bytes(b"\x00\n" + path.read_bytes())
    with pytest.raises(MgstudyError, match=r"events\.jsonl: cannot be read"):
        Spool(path)
