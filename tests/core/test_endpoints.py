"""Where a path of a family is at a provider."""

import pytest

from pointsman.core.endpoints import join


@pytest.mark.parametrize(
    ("base_url", "family", "path", "url"),
    [
        ("https://h", "openai", "/v1/models", "https://h/v1/models"),
        ("https://h/v1", "openai", "/v1/models", "https://h/v1/models"),
        ("https://h/v1/", "openai", "/v1/models", "https://h/v1/models"),
        ("https://h/v1beta/openai", "openai", "/v1/models", "https://h/v1beta/openai/models"),
        ("https://h/api", "anthropic", "/v1/messages", "https://h/api/v1/messages"),
        ("https://h/api/v1", "anthropic", "/v1/messages", "https://h/api/v1/messages"),
        ("https://h:8443", "anthropic", "/v1/messages", "https://h:8443/v1/messages"),
        ("https://h/v1", "openai", "/other", "https://h/v1/other"),
        ("https://h/v1", "openai", "/v1beta/models", "https://h/v1/v1beta/models"),
    ],
)
def test_a_version_never_appears_twice(base_url: str, family: str, path: str, url: str) -> None:
    """As the official clients have it: openai base URLs name the version, anthropic ones do not."""
    assert join(base_url, family, path) == url
