"""Paths, URLs, headers and rate limits."""

import pytest

from pointsman.core.evidence import RateLimit
from pointsman.proxy.api import Api, api_of, stored_response_id, url_of
from pointsman.proxy.clock import SavedClock, remaining_after_restart
from pointsman.proxy.headers import Pairs, Taken, never_from_table
from pointsman.proxy.ratelimits import tightest


def taken(headers: Pairs, *, to_caller: bool) -> Taken:
    """All of `headers`, taken in their order."""
    found = Taken(to_caller=to_caller)
    for name, value in headers:
        found.take(name, value)
    return found


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


@pytest.mark.parametrize(
    "name",
    [
        *("KEY", "key", "%6bey", "k%65y", "+key", "%20key"),
        *("api_key", "Api-Key", "API%5FKEY", "access_token", "subscription-key", "Subscription%2DKey"),
    ],
)
def test_a_key_does_not_travel_however_it_is_written(name: str) -> None:
    """Servers fold case and decode percent signs before they look for it."""
    assert (
        url_of("https://h", "openai", "/v1/files", f"{name}=SECRET&limit=2&{name}")
        == "https://h/v1/files?limit=2"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/../organization/admin_api_keys",
        "/v1/files/%2e%2e/organization/users",
        "/v1/files/%2E./organization/users",
        "/v1/files/..%2Forganization",
        "/v1/files/..%5Corganization",
        "/v1/files/..\\organization",
        "/v1/files/%252e%252e/organization",
        "/v1/files/..;/organization",
        "/v1/files/./x",
        "/v1/files//x",
        "/v1/files//",
        "/v1/files/a\n",
        "/v1/files/%00",
        "/v1/responses/../fine_tuning/jobs",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_path_does_not_climb_out_of_its_api(path: str, method: str) -> None:
    """It travels with the provider's own credential: nothing else of the account is within reach."""
    assert api_of(method, path) is None


def test_names_and_ids_pass() -> None:
    """Percent signs as such do no harm, nor does a slash at the end."""
    for path in ("/v1/files", "/v1/files/", "/v1/files/file-a_1.B~c/content", "/v1/batches/batch%5F1/cancel"):
        assert api_of("GET", path) is Api.ACCOUNT


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_only_the_methods_of_the_api_pass(method: str) -> None:
    """The rest is served nowhere."""
    assert api_of(method, "/v1/files/file-1") is None


def test_what_names_a_model_is_routed_by_it() -> None:
    """Two operations beside responses do; the stored ones do not."""
    assert api_of("POST", "/v1/responses/input_tokens") is Api.INPUT_TOKENS
    assert api_of("POST", "/v1/responses/compact") is Api.COMPACT
    assert api_of("POST", "/v1/responses/resp_1/cancel") is Api.ACCOUNT


def test_no_credential_of_the_caller_travels() -> None:
    """Whatever header it is in, and in whatever case; the provider's own is put in."""
    inbound = [
        (b"Authorization", b"Bearer inbound"),
        (b"X-Api-Key", b"inbound"),
        (b"api-key", b"inbound"),
        (b"x-goog-api-key", b"inbound"),
        (b"Cookie", b"inbound"),
        (b"Proxy-Authorization", b"inbound"),
        (b"OpenAI-Organization", b"inbound"),
        (b"OpenAI-Project", b"inbound"),
        (b"X-Goog-User-Project", b"inbound"),
        (b"Ocp-Apim-Subscription-Key", b"inbound"),
        (b"Cf-Aig-Authorization", b"inbound"),
        (b"X-Auth-Token", b"inbound"),
        (b"X-Amz-Security-Token", b"inbound"),
        (b"X-Company-Auth-Token", b"inbound"),
        (b"X-Pointsman-Synthetic", b"1"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"X-Hop", b"1"),
        (b"anthropic-beta", b"one"),
        (b"anthropic-beta", b"two"),
    ]
    assert taken(inbound, to_caller=False).lines() == b"anthropic-beta: one\r\nanthropic-beta: two\r\n"


def test_a_provider_may_have_headers_of_its_own() -> None:
    """What the configuration says of it travels in place of the caller's, an account's name too."""
    inbound = [(b"X-Region", b"caller"), (b"X-Team", b"caller")]
    assert taken(inbound, to_caller=False).lines({"x-region"}) == b"X-Team: caller\r\n"
    assert not never_from_table("openai-organization")
    assert never_from_table("Cf-Aig-Authorization")


def test_the_answers_headers_pass_but_for_the_hop_and_cookies() -> None:
    """request-id and rate limits reach the caller."""
    answered = [
        (b"request-id", b"r"),
        (b"Set-Cookie", b"s"),
        (b"Transfer-Encoding", b"chunked"),
        (b"retry-after", b"3"),
    ]
    assert taken(answered, to_caller=True).lines() == b"request-id: r\r\nretry-after: 3\r\n"


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
