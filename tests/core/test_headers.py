"""Which headers belong to an account, and which can be written."""

import pytest

from pointsman.core.headers import API_KEYS, is_name, is_of_account, is_secret, is_value

SECRETS = [
    *API_KEYS,
    "Proxy-Authorization",
    "COOKIE",
    "x-amz-security-token",
    "cf-aig-authorization",
    "X-Company-Auth-Token",
    "ocp-apim-subscription-key",
    "some-subscription-key",
    "helicone-api-key",
]
SELECTORS = ["OpenAI-Organization", "openai-project", "x-goog-user-project"]
PLAIN = ["anthropic-beta", "anthropic-version", "authorization-hint", "x-key", "content-type", "user-agent"]


@pytest.mark.parametrize("name", SECRETS)
def test_credentials(name: str) -> None:
    """By name or by ending, in any case of letters."""
    assert is_secret(name)
    assert is_of_account(name)


@pytest.mark.parametrize("name", SELECTORS)
def test_what_chooses_an_account(name: str) -> None:
    """It is no secret: a provider's own configuration may say it. A caller's goes no further."""
    assert not is_secret(name)
    assert is_of_account(name)


@pytest.mark.parametrize("name", PLAIN)
def test_the_rest(name: str) -> None:
    """Everything else is the caller's own business with the provider."""
    assert not is_of_account(name)


def test_what_can_be_written() -> None:
    """A name is a token, a value ASCII on one line."""
    assert is_name("x-y")
    assert not any(is_name(name) for name in ("", "x y", "x:", "x\r\n", "é"))
    assert is_value("one line, ~")
    assert not any(is_value(value) for value in ("1\r\nz: 2", "1\n", "\t", "é", "\x00"))
