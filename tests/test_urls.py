"""Nothing that is secret in an address leaves the process, whatever the address looks like."""

from __future__ import annotations

import pytest

from mgstudy.errors import InputError
from mgstudy.urls import expand_url, first_line, recorded_url, redacted


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host/database", "postgresql://me:***@host/database"),
        ("postgresql+psycopg://me:se:c@ret@host:5432/d", "postgresql+psycopg://me:***@host:5432/d"),
        ("postgresql://me:se/c?ret#x@host/d", "postgresql://me:***@host/d"),
        ("postgresql://me:my secret@host/d", "postgresql://me:***@host/d"),
        ("postgresql://me: secret@host/d", "postgresql://me: ***@host/d"),
        ("postgresql://:secret@host/d", "postgresql://:***@host/d"),
        ("postgresql://me/you:secret@host/d", "postgresql://me/you:***@host/d"),
        ("https://me:secret@tracking.org/path?x=1", "https://me:***@tracking.org/path?x=1"),
        ("HTTPS://me:secret@TRACKING.org", "HTTPS://me:***@TRACKING.org"),
        ("http://token@host:5000/path", "http://***@host:5000/path"),
        ("http://token:@host:5000", "http://***:@host:5000"),
        ("git+https://token@host/x", "git+https://***@host/x"),
        ("s3://key:secret@bucket/studies", "s3://key:***@bucket/studies"),
        ("http://host/?token=secret&x=1", "http://host/?token=***&x=1"),
        ("http://host/?x=1&access_token=secret", "http://host/?x=1&access_token=***"),
        ("http://host/?API-KEY=secret#part", "http://host/?API-KEY=***"),
        ("https://host/x?se=1&sig=se%2Fcret", "https://host/x?se=1&sig=***"),
        ("https://host/x?X-Amz-Signature=secret&a=b", "https://host/x?X-Amz-Signature=***&a=b"),
        ("https://host/x?X-Amz-Security-Token=secret", "https://host/x?X-Amz-Security-Token=***"),
        ("postgresql://host/d?user=me&password=secret&x=1",
         "postgresql://host/d?user=me&password=***&x=1"),
        ("postgresql://me:secret@host/d?sslpassword=secret",
         "postgresql://me:***@host/d?sslpassword=***"),
        ("postgresql://me:$DATABASE_PASSWORD@host/d", "postgresql://me:***@host/d"),
        ("postgresql://me:secret${DATABASE_PASSWORD}@host/d", "postgresql://me:***@host/d"),
        ("host=h user=me password='my secret' dbname=d", "host=h user=me password=*** dbname=d"),
        ("host=h PASSWORD=secret", "host=h PASSWORD=***"),
        ("postgresql://me:secret/d", "postgresql://me:***/d"),
        ("'http://me:12secret'", "'http://me:***'"),
        ("postgresql:/me:secret@host/d", "postgresql:/me:***@host/d"),
        ("postgresql:me:secret@host/d", "postgresql:***@host/d"),
        ("uri='//me:secret@10.0.0.1:80'", "uri='//me:***@10.0.0.1:80'"),
        ("me:sec:ret@host:5432", "me:***@host:5432"),
        ("https://host/?key=secret&pass=secret#auth=secret", "https://host/?key=***&pass=***"),
        ("ssl_passphrase=secret", "ssl_passphrase=***"),
        ("password = 'my secret'", "password = ***"),
        ("AWS_ACCESS_KEY_ID=me AWS_SECRET_ACCESS_KEY=sec/ret",
         "AWS_ACCESS_KEY_ID=me AWS_SECRET_ACCESS_KEY=***"),
        ("AccountName=me;AccountKey=secret==", "AccountName=me;AccountKey=***"),
        ("{'user': 'me', 'password': 'sec ret'}", "{'user': 'me', 'password': ***}"),
        ('{"client_secret": "secret"}', '{"client_secret": ***}'),
        ("Authorization: Bearer secret.of-more_than.16", "Authorization: Bearer ***"),
        ("Authorization: Basic bWU6c2VjcmV0bWU6c2VjcmV0==", "Authorization: Basic ***"),
    ],
)  # fmt: skip
def test_a_secret_is_never_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me@host:5432/database",
        "postgresql+psycopg2://me@host:5432/database",
        "http://localhost:5000",
        "http://localhost:5000: cannot be reached; ask me@example.org",
        "http://[::1]:5000/path",
        "write `storage: postgresql://USER:${DATABASE_PASSWORD}@HOST/DATABASE`",
        "sqlite:////home/me/a:b/study.db",
        "sqlite:////home/me@work/a:b/study.db",
        "journal:////home/me/study.log",
        "s3://bucket/user@example.org/x",
        "http://host/path?config=1&design=2&tokens=3",
        "max_tokens: 4, password: none",
        "objective:recall@20 key=a",
        "file:/home/me/a:b@host/x",
        "the basic understanding of a bearer token",
        "***",
        "",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_every_address_of_a_text_is_looked_at() -> None:
    text = (
        "HTTPConnectionPool(host='h', port=80): Max retries exceeded with url: /a?token=secret "
        "(Caused by http://me:secret@one), then https://secret@two:1/?x=1&password=secret "
        "and postgresql://me:secret@three/d\nat http://me:secret@four: refused"
    )
    shown = redacted(text)
    assert "secret" not in shown
    for rest in ("port=80", "(Caused by http://me:", "@one)", "@two:1/?x=1&", "//me:***@three/d\n"):
        assert rest in shown
    assert shown.endswith("@four: refused")


def test_a_failure_is_said_in_a_line_without_secrets() -> None:
    failure = OSError("\nhttp://token@host: no\nanswer")
    assert first_line(failure) == "http://***@host: no"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "se$cret")
    monkeypatch.delenv("DATABASE_HOST", raising=False)
    assert expand_url("postgresql://me:${DATABASE_PASSWORD}@h/d") == "postgresql://me:se$cret@h/d"
    with pytest.raises(InputError, match=r"variable \$\{DATABASE_HOST\} is not set") as caught:
        expand_url("postgresql://me:${DATABASE_PASSWORD}@${DATABASE_HOST}/d")
    assert "se$cret" not in str(caught.value)


def test_a_space_in_a_secret_does_not_part_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "my secret")
    expanded = expand_url("http://host/?token=${TOKEN}")
    assert expanded == "http://host/?token=my%20secret"
    assert redacted(expanded) == "http://host/?token=***"
    assert recorded_url("http://host/?token=my secret") == "http://host/?token=***"
    assert expand_url("sqlite:////my studies/a.db") == "sqlite:////my studies/a.db"


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("postgresql://me:secret@host/d", "postgresql://me:***@host/d"),
        ("postgresql://me:${PASSWORD}@host/d", "postgresql://me:${PASSWORD}@host/d"),
        ("postgresql://me:$PASSWORD@host/d", "postgresql://me:$PASSWORD@host/d"),
        ("postgresql://me:secret${PASSWORD}@host/d", "postgresql://me:***@host/d"),
        ("postgresql://host/d?user=me&password=secret", "postgresql://host/d?user=me&password=***"),
        (
            "postgresql://host/d?user=me&password=${PASSWORD}",
            "postgresql://host/d?user=me&password=${PASSWORD}",
        ),
        # One that is named does not let another through.
        ("http://me:secret@host/?token=${TOKEN}", "http://me:***@host/?token=${TOKEN}"),
        ("http://token@host", "http://***@host"),
        ("http://${TOKEN}@host", "http://${TOKEN}@host"),
        ("http://host/?token=secret", "http://host/?token=***"),
    ],
)
def test_a_password_is_kept_only_as_the_name_of_its_variable(url: str, kept: str) -> None:
    assert recorded_url(url) == kept
    if "***" in kept:
        with pytest.raises(InputError, match=r"is not kept with the study; write it as \$\{VAR"):
            expand_url(kept)
