"""What ``mlflow.pyfunc.load_model`` makes of a model that a study logged.

MLflow copies this file beside the artifacts and runs the copy, so that loading needs neither a
pickle nor mgstudy: it may import pandas and MLflow alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class RankedLists(PythonModel):  # type: ignore[misc]
    """Looks up the items that a trained model ranked first for each user when it was logged."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the lists and what they are of."""
        self.lists = pd.read_parquet(context.artifacts["lists"])
        self.users = pd.read_parquet(context.artifacts["users"])["user"]
        described = json.loads(Path(context.artifacts["description"]).read_text("utf-8"))
        self.longest: int = described["list_length"]

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """The top items of users.

        Args:
            context: Unused.
            model_input: A column ``user``, or one without a name: the raw data's users.
            params: ``k``: how many items, 20 when not given.

        Returns:
            ``user``, ``rank`` (from 1), ``item`` and ``score``, users in the order they were asked
            for; fewer than ``k`` rows for a user with fewer items left to recommend.

        Raises:
            ValueError: For an unknown user, another column, or a ``k`` that is not kept.
        """
        name = model_input.columns[0]
        if name not in ("user", 0):
            raise ValueError(f"expected users in a column 'user', got column {name!r}")
        users = model_input[name]
        known = users.isin(self.users)
        if not known.all():
            unknown = ", ".join(str(user) for user in users[~known].unique()[:5])
            raise ValueError(
                f"unknown user {unknown}: the model knows {len(self.users)} users, such as "
                f"{self.users.iloc[0]}"
            )
        k = int((params or {}).get("k", 20))
        if not 1 <= k <= self.longest:
            raise ValueError(f"k must be 1 to {self.longest}, got {k}")
        top = self.lists[self.lists["rank"] <= k]
        return pd.DataFrame({"user": users.astype(self.users.dtype)}).merge(
            top, on="user", how="inner"
        )


set_model(RankedLists())
