"""Text by TF-IDF and a truncated SVD: latent semantic analysis, which needs no model."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.config.pipeline import Template
from mgstudy.data.encoder import Encoded, Encoder, EncoderParameters, Items
from mgstudy.data.sentences import read_sentences
from mgstudy.errors import InputError


class TfidfSvd(Encoder):
    """Text, joined from fields by a template, by TF-IDF and SVD (latent semantic analysis).

    Deerwester et al., 1990, on logarithmic term frequencies; needs no download.
    """

    name: ClassVar[str] = "tfidf_svd"
    learns_from_items = True
    packages = ("scikit-learn",)

    class Parameters(EncoderParameters):
        template: Template = parameter(..., "text with an item's fields in braces")
        dimensions: int = parameter(128, "columns of the table", ge=1)
        minimum_items: int = parameter(2, "a word in fewer items' texts is left out", ge=1)
        seed: int = parameter(0, "of the randomised SVD", ge=0, lt=2**32)

    parameters: Parameters

    def encode(self, items: Items) -> Encoded:
        # Loaded when something is made, so that finding everything made takes no second.
        from sklearn.decomposition import TruncatedSVD  # noqa: PLC0415
        from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: PLC0415

        settings = self.parameters
        sentences, known = read_sentences(items, settings.template)
        vectorizer = TfidfVectorizer(
            min_df=settings.minimum_items, sublinear_tf=True, strip_accents="unicode"
        )
        origin = items.source.item_origin()
        try:
            words = vectorizer.fit_transform([sentences[item] for item in np.flatnonzero(known)])
        except ValueError as error:
            raise InputError(
                f"{origin}: the items' texts share no words: {error}; set minimum_items: 1"
            ) from error
        if settings.dimensions >= min(words.shape):
            raise InputError(
                f"{origin}: {words.shape[0]:,} texts of {words.shape[1]:,} different words cannot "
                f"have {settings.dimensions} dimensions; set fewer"
            )
        reduction = TruncatedSVD(settings.dimensions, random_state=settings.seed)
        values = items.table(settings.dimensions)
        with np.errstate(invalid="ignore"):  # Texts that are all the same vary by nothing.
            values[known] = reduction.fit_transform(words)
        return Encoded(values, known, lambda row, _: f"text of item {items.name(row)!r}")
