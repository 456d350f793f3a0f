"""The configuration is read once, typed, and refuses to start with a sentence that names the variable."""

from __future__ import annotations

import pytest

from collector.config import VARIABLES, FlushPolicy, from_environ, help_text
from collector.errors import ConfigError
from tests.collector.conftest import ENVIRON


def test_the_required_variables_are_enough() -> None:
    """Everything else has a default that a collector can run with."""
    config = from_environ(ENVIRON)

    assert config.flush == FlushPolicy(size_events=2000, flush_at=0.5, timeout_ms=30_000)
    assert config.catalog.oauth2_uri == "http://127.0.0.1:8181/v1/oauth/tokens"
    assert (config.ingest.port, config.admin.port) == (8787, 8788)
    assert config.limits.event_bytes >= 65536


@pytest.mark.parametrize("name", [variable.name for variable in VARIABLES if variable.default is None])
def test_a_missing_required_variable_is_named(name: str) -> None:
    """Without a required variable there is no start."""
    with pytest.raises(ConfigError, match=f"^{name} is missing"):
        from_environ({**ENVIRON, name: " "})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADMIN_TOKEN", "short"),
        ("ADMIN_TOKEN", "t" * 31),
        ("ADMIN_TOKEN", "with spaces in it, but certainly long enough"),
        ("LISTEN_PORT", "65536"),
        ("LISTEN_PORT", "-1"),
        ("LISTEN_HOST", "a b"),
        ("ICEBERG_BUFFER_SIZE", "0"),
        ("ICEBERG_BUFFER_SIZE", "2_000"),
        ("ICEBERG_BUFFER_SIZE", "٢"),
        ("ICEBERG_BUFFER_FLUSH_AT", "0"),
        ("ICEBERG_BUFFER_FLUSH_AT", "1.1"),
        ("ICEBERG_BUFFER_FLUSH_AT", "nan"),
        ("ICEBERG_BUFFER_TIMEOUT_MS", "0.5"),
        ("DRAIN_S", "inf"),
        ("CATALOG_URI", "ftp://x"),
        ("CATALOG_URI", "http://user:secret@x"),
        ("CATALOG_URI", "http://x:99999"),
        ("CATALOG_CREDENTIAL", "nocolon"),
        ("TABLE_IDENTIFIER", "events"),
        ("TABLE_IDENTIFIER", "a..b"),
        ("MAX_EVENT_BYTES", "65535"),
        ("MAX_JSON_DEPTH", "1000"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    """A value that cannot work is found at start, and the sentence says where."""
    with pytest.raises(ConfigError, match=name):
        from_environ({**ENVIRON, name: value})


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        ({"ADMIN_PORT": "8787"}, "ADMIN_PORT must differ"),
        ({"AWS_ACCESS_KEY_ID": "k"}, "must be given together"),
        ({"MAX_EVENT_BYTES": "1000000", "MAX_DECOMPRESSED_BYTES": "99999"}, "MAX_EVENT_BYTES must not exceed"),
    ],
)
def test_values_that_contradict_each_other_are_refused(extra: dict[str, str], match: str) -> None:
    """Each value may be fine by itself."""
    with pytest.raises(ConfigError, match=match):
        from_environ({**ENVIRON, **extra})


def test_secrets_are_in_no_repr_and_in_no_error() -> None:
    """A configuration can be printed."""
    secrets = {
        "ADMIN_TOKEN": "canary-token-" + "x" * 32,
        "AWS_ACCESS_KEY_ID": "canary-key",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "CATALOG_CREDENTIAL": "id:canary-credential",
        "CATALOG_TOKEN": "canary-catalog",
    }

    config = from_environ({**ENVIRON, **secrets})

    assert "canary" not in repr(config)
    assert set(secrets.values()) | {"canary-credential"} == set(config.secrets())
    with pytest.raises(ConfigError) as caught:
        from_environ({**ENVIRON, "CATALOG_URI": "http://user:canary@x"})
    assert "canary" not in str(caught.value)


def test_every_variable_is_documented() -> None:
    """``--help`` names each one with its meaning and its default."""
    text = help_text()

    for variable in VARIABLES:
        assert variable.help.endswith((".", "503.", "408."))
        assert f"  {variable.name} " in text
    assert text.count("[required]") == 4
