"""Optuna's own tests of a storage, over ours."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase

from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.study.storage.write_behind import open_driven_storage


class TestWriteBehindStorage(StorageTestCase):
    """All of them hold but one; and whatever a test did, what is behind has it too."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[BaseStorage]:
        """An empty storage."""
        url = f"journal:///{tmp_path}/study.log"
        storage = open_driven_storage(url)
        yield storage
        storage.close()
        behind = open_storage(url, create=False)
        studies = {study.study_name: study for study in behind.get_all_studies()}
        assert studies.keys() == {study.study_name for study in storage.get_all_studies()}
        for study in storage.get_all_studies():
            found = studies[study.study_name]
            assert found.directions == study.directions
            for here, there in (
                (study.user_attrs, found.user_attrs),
                (study.system_attrs, found.system_attrs),
                (self._trials(storage, study.study_name), self._trials(behind, study.study_name)),
            ):
                # As text, for NaN does not equal itself.
                assert repr(here) == repr(there)

    @staticmethod
    def _trials(storage: BaseStorage, study_name: str) -> list[tuple[object, ...]]:
        return [
            (
                trial.number,
                trial.state,
                trial.values,
                sorted(trial.params.items()),
                sorted(trial.distributions.items()),
                sorted(trial.user_attrs.items()),
                sorted(trial.system_attrs.items()),
                sorted(trial.intermediate_values.items()),
            )
            for trial in storage.get_all_trials(storage.get_study_id_from_name(study_name))
        ]

    def test_pickle_storage(self, storage: BaseStorage) -> None:
        """The exception: a copy would be a second writer, and is refused."""
        with pytest.raises(TypeError, match="a driver's storage has no copies"):
            pickle.dumps(storage)
