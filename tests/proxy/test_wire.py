"""Paths, URLs, headers and rate limits."""

import pytest

from pointsman.core.evidence import RateLimit
from pointsman.proxy.api import Api, api_of, stored_response_id, url_of
from pointsman.proxy.clock import SavedClock, remaining_after_restart
from pointsman.proxy.headers import to_caller, to_provider
from pointsman.proxy.ratelimits import tightest


@pytest.mark.parametrize(
    ("base", "family", "path", "url"),
    [
        ("https://h/v1", "openai", "/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/api/v1/", "openai", "/v1/chat/completions", "https://h/api/v1/chat/completions"),
        ("https://h", "openai", "/v1/chat/completions", "https://h/v1/chat/completions"),
        ("https://h/v1beta/openai", "openai", "/v1/embeddings", "https://h/v1beta/openai/embeddings"),
        ("https://h/openai/v1", "openai", "/v1/responses", "https://h/openai/v1/responses"),
        ("https://h", "anthropic", "/v1/messages", "https://h/v1/messages"),
        ("https://h/anthropic", "anthropic", "/v1/messages", "https://h/anthropic/v1/messages"),
        ("https://h/api/v1", "anthropic", "/v1/messages", "https://h/api/v1/messages"),
    ],
)
def test_one_version_in_the_url(base: str, family: str, path: str, url: str) -> None:
    """Never two /v1, never none where one belongs."""
    assert url_of(base, family, path) == url


def test_the_query_travels_without_keys() -> None:
    """?beta=true does, a key does not."""
    assert (
        url_of("https://h", "anthropic", "/v1/messages", "beta=true&key=SECRET")
        == "https://h/v1/messages?beta=true"
    )
    assert (
        url_of("https://h", "anthropic", "/v1/messages", "key=SECRET&beta=true")
        == "https://h/v1/messages?beta=true"
    )
    assert url_of("https://h", "anthropic", "/v1/messages", "monkey=1") == "https://h/v1/messages?monkey=1"


def test_the_path_and_the_method_make_the_api() -> None:
    """Known paths by POST, accounts by any method, nothing else."""
    assert api_of("POST", "/v1/messages") is Api.MESSAGES
    assert api_of("GET", "/v1/messages") is None
    assert api_of("DELETE", "/v1/files/file-1") is Api.ACCOUNT
    assert api_of("POST", "/v1/messages/batches") is Api.ACCOUNT
    assert api_of("POST", "/v1/filesystem") is None
    assert stored_response_id("/v1/responses/resp_1/cancel") == "resp_1"


def test_no_credential_of_the_caller_travels() -> None:
    """Whatever header it is in, and in whatever case; the provider's own is put in."""
    inbound = [
        ("Authorization", "Bearer inbound"),
        ("X-Api-Key", "inbound"),
        ("api-key", "inbound"),
        ("x-goog-api-key", "inbound"),
        ("Cookie", "inbound"),
        ("Proxy-Authorization", "inbound"),
        ("X-Pointsman-Synthetic", "1"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two"),
    ]
    sent = to_provider(inbound, {"x-api-key": "own"}, keep_encoding=True)
    assert sent == [
        ("anthropic-beta", "one"),
        ("anthropic-beta", "two"),
        ("Accept-Encoding", "identity"),
        ("x-api-key", "own"),
    ]


def test_the_answers_headers_pass_but_for_the_hop_and_cookies() -> None:
    """request-id and rate limits reach the caller."""
    answered = [
        ("request-id", "r"),
        ("Set-Cookie", "s"),
        ("Transfer-Encoding", "chunked"),
        ("retry-after", "3"),
    ]
    assert to_caller(answered, keep_length=False) == [("request-id", "r"), ("retry-after", "3")]


def test_the_tightest_dimension_counts() -> None:
    """5 % of the tokens left beats 90 % of the requests."""
    limit = tightest(
        {
            "anthropic-ratelimit-requests-limit": "100",
            "anthropic-ratelimit-requests-remaining": "90",
            "anthropic-ratelimit-input-tokens-limit": "1000",
            "anthropic-ratelimit-input-tokens-remaining": "50",
            "anthropic-ratelimit-input-tokens-reset": "1970-01-01T00:01:40Z",
        },
        now_s=40.0,
    )
    assert limit == RateLimit(remaining_ratio=0.05, reset_in_s=60.0, dimension="input-tokens")


def test_openais_durations_are_read() -> None:
    """6m0s is 360 seconds."""
    limit = tightest(
        {
            "x-ratelimit-limit-tokens": "1000",
            "x-ratelimit-remaining-tokens": "250",
            "x-ratelimit-reset-tokens": "6m0s",
        },
        now_s=0.0,
    )
    assert limit == RateLimit(remaining_ratio=0.25, reset_in_s=360.0, dimension="tokens")


@pytest.mark.parametrize("remaining", ["-1", "", "nan", "1e3", "x"])
def test_nonsense_says_nothing(remaining: str) -> None:
    """Azure has answered -1."""
    headers = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": remaining}
    assert tightest(headers, 0.0) is None


def test_deadlines_run_on_while_a_proxy_is_down() -> None:
    """Saved at 1,000 with a deadline at 1,060, started at 1,040: twenty seconds are left."""
    assert remaining_after_restart({"o": 1_060.0}, SavedClock(1_000.0, 0.0), 1_040.0) == {"o": 20.0}
    assert remaining_after_restart({"o": 1_060.0}, SavedClock(1_000.0, 5.0), 1_040.0) == {"o": 15.0}


def test_a_clock_that_went_backwards_is_not_believed() -> None:
    """Neither is one that was far from the store's."""
    assert remaining_after_restart({"o": 1_060.0}, SavedClock(1_000.0, 0.0), 999.0) is None
    assert remaining_after_restart({"o": 1_060.0}, SavedClock(1_000.0, 600.0), 1_001.0) is None
