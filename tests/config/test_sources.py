"""The file, the environment above it, and what is said when either cannot be used."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pointsman.config.errors import ConfigError, Problem
from pointsman.config.sources import from_data, load, read, state_dir

Write = Callable[..., Path]


def problems(path: Path, env: dict[str, str] | None = None) -> list[Problem]:
    """What is wrong with the file."""
    with pytest.raises(ConfigError) as caught:
        load(path, env or {})
    return list(caught.value.problems)


def only(path: Path, env: dict[str, str] | None = None) -> Problem:
    """The one thing that is wrong with the file."""
    found = problems(path, env)
    assert len(found) == 1, found
    return found[0]


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    """It names the path and what to do."""
    assert str(only(tmp_path / "no.yaml")) == (
        f"{tmp_path}/no.yaml: the file does not exist. Cure: check the path, or copy the example there."
    )


def test_a_folder_is_one_clear_error(tmp_path: Path) -> None:
    """It says why the file cannot be read."""
    assert only(tmp_path).text == "the file cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("body", "line", "text"),
    [
        (b"", None, "the file is empty"),
        (b"# only a comment\n", None, "the file is empty"),
        (b"- one\n- two\n", 1, "the file is no mapping"),
        (b"providers: 1\n\xff\n", 2, "the file is not UTF-8 text"),
        (b"fleet: a\x01b\n", 1, "a control character is in the file"),
        (b"fleet: [a, b\n", 2, "this is not YAML"),
        (b"fleet: *nowhere\n", 1, "this is not YAML"),
        (b"a: 1\n---\nb: 2\n", 2, "this is not YAML"),
        (b"fleet: " + b"[" * 5000, None, "nested too deeply"),
        (b"a: &a [*a]\n", None, "nested too deeply, or holds itself"),
        (b"fleet: " + b"9" * 5000, 1, "the number cannot be read"),
        (b"? [a]\n: b\n", 1, "a key is a list or a mapping"),
        (b"x" * (4 * 1024 * 1024 + 1), None, "larger than 4 MiB"),
    ],
)
def test_a_broken_file_is_one_clear_error(tmp_path: Path, body: bytes, line: int | None, text: str) -> None:
    """What is not a configuration at all is one problem with its line."""
    path = tmp_path / "pointsman.yaml"
    path.write_bytes(body)
    problem = only(path)
    assert text in problem.text
    assert problem.line == line


def test_aliases_cannot_blow_up(tmp_path: Path) -> None:
    """A file of a kilobyte does not become a billion values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    path = tmp_path / "pointsman.yaml"
    path.write_text("\n".join(lines))
    assert only(path).text == "the file has too many values"


def test_words_that_yaml_1_1_takes_for_booleans_are_text(write: Write) -> None:
    """`no`, `on`, a date and a sexagesimal number stay what was written."""
    path = write(
        ("bedrock, model: large", "bedrock, model: no"),
        ("google, model: large", "google, model: 2024-05-01"),
        append="fleet: on\nproxy: {name: y}\n",
    )
    settings = load(path, {})
    assert [target.model for target in settings.targets.values()] == ["no", "2024-05-01"]
    assert (settings.fleet, settings.proxy.name) == ("on", "y")


def test_keys_are_text(write: Write) -> None:
    """A route called 4 or off needs no quotes."""
    path = write(append="  4: {weights: {bedrock-chat: 100}}\n  off: {weights: {bedrock-chat: 100}}\n")
    assert list(load(path, {}).routes) == ["chat", "4", "off"]


def test_a_whole_number_is_a_number(write: Write) -> None:
    """Seconds may be written without a fraction; a truth value is no number."""
    assert load(write(append="policy: {window_s: 60}\n"), {}).policy.window_s == 60.0
    assert only(write(append="policy: {window_s: true}\n")).key == "policy.window_s"


def test_a_section_without_lines_has_its_defaults(write: Write) -> None:
    """A section whose settings are all commented out counts as not there."""
    assert load(write(append="policy:\nstore:\n"), {}) == load(write(), {})


def test_all_problems_are_reported_at_once_in_the_order_of_lines(write: Write) -> None:
    """A wrong type, a wrong reference, a wrong sum and a key given twice: four problems, no fifth."""
    path = write(
        (
            "family: openai\n    base_url: https://bedrock.example/v1",
            "family: open\n    base_url: https://b.example",
        ),
        ("provider: google", "provider: gogle"),
        ("google-chat: 40", "google-chat: 30\n      google-chat: 40"),
        append="policy: {probe_failures: -1}\n",
    )
    assert [(problem.line, problem.key) for problem in problems(path)] == [
        (3, "providers.bedrock.family"),
        (11, "targets.google-chat.provider"),
        (14, "routes.chat.weights"),
        (17, "routes.chat.weights.google-chat"),
        (18, "policy.probe_failures"),
    ]


def test_a_damaged_entry_is_still_a_name(write: Write) -> None:
    """A provider with a typo is not also unknown to its targets."""
    assert only(write(("https://bedrock.example/v1", "1"))).key == "providers.bedrock.base_url"


def test_a_typo_is_answered_with_the_nearest_key(write: Write) -> None:
    """The whole sentence, as an operator reads it."""
    path = write(append="policy:\n  probe_failues: 3\n")
    assert (
        str(only(path)) == f"{path}:18: policy.probe_failues: unknown key. Cure: did you mean probe_failures?"
    )


# --- the environment


def test_the_environment_wins(write: Write) -> None:
    """Default < file < environment, each value by itself."""
    path = write(append="policy: {probe_failures: 4, live_failures: 7}\n")
    policy = load(path, {"POINTSMAN_POLICY__PROBE_FAILURES": "2"}).policy
    assert (policy.probe_failures, policy.live_failures, policy.half_open_trials) == (2, 7, 2)


@pytest.mark.parametrize(
    ("variable", "value", "path", "expected"),
    [
        ("POINTSMAN_FLEET", "123", ("fleet",), "123"),
        ("POINTSMAN_ENVIRONMENT", "staging", ("environment",), "staging"),
        ("POINTSMAN_STORE__URL", "redis://127.0.0.1:1/0", ("store", "url"), "redis://127.0.0.1:1/0"),
        ("POINTSMAN_PROXY__TIMEOUTS__IDLE_S", "7", ("proxy", "timeouts", "idle_s"), 7.0),
        ("POINTSMAN_PROXY", '{"max_body_mb": 3}', ("proxy", "max_body_mb"), 3),
        ("pointsman_proxy__max_body_mb", "3", ("proxy", "max_body_mb"), 3),
        (
            "POINTSMAN_PROVIDERS__GOOGLE__PROBE__GENERATE",
            "false",
            ("providers", "google", "probe", "generate"),
            False,
        ),
        (
            "POINTSMAN_PROVIDERS__GOOGLE__CREDENTIALS",
            '["env:A"]',
            ("providers", "google", "credentials"),
            ["env:A"],
        ),
        (
            "POINTSMAN_TARGETS__GOOGLE_CHAT__CAPACITY_RPS",
            "5",
            ("targets", "google-chat", "capacity_rps"),
            5.0,
        ),
        ("POINTSMAN_TARGETS__GOOGLE_CHAT__MODEL", "5", ("targets", "google-chat", "model"), "5"),
        ("POINTSMAN_ROUTES__CHAT__MAX_ATTEMPTS", "2", ("routes", "chat", "max_attempts"), 2),
    ],
)
def test_a_variable_reaches_its_setting(
    write: Write, variable: str, value: str, path: tuple[str, ...], expected: object
) -> None:
    """Every level and type of setting can be given by the environment."""
    found = load(write(), {variable: value}).model_dump(mode="json")
    for key in path:
        found = found[key]
    assert found == expected


def test_weights_can_be_given_by_variables(write: Write) -> None:
    """A free name is matched with the file's, `_` standing for what a variable's name cannot hold."""
    env = {
        "POINTSMAN_ROUTES__CHAT__WEIGHTS__BEDROCK_CHAT": "33.33",
        "POINTSMAN_ROUTES__CHAT__WEIGHTS__GOOGLE_CHAT": "66.67",
    }
    assert load(write(), env).routes["chat"].weights == {"bedrock-chat": 33.33, "google-chat": 66.67}


def test_the_variable_of_a_value_beats_the_one_of_its_section(write: Write) -> None:
    """A whole section as JSON, and one value of it by its own variable: the narrower word wins."""
    env = {"POINTSMAN_PROXY__MAX_BODY_MB": "7", "POINTSMAN_PROXY": '{"max_body_mb": 3, "drain_s": 5}'}
    proxy = load(write(), env).proxy
    assert (proxy.max_body_mb, proxy.drain_s) == (7, 5.0)


def test_an_empty_variable_counts_as_not_set(write: Write) -> None:
    """`POINTSMAN_STORE__URL=` in a compose file changes nothing."""
    assert load(write(), {"POINTSMAN_STORE__URL": "", "POINTSMAN_POLCY__X": ""}) == load(write(), {})


def test_other_variables_of_the_prefix_are_no_settings(write: Write) -> None:
    """POINTSMAN_CONFIG and secrets called POINTSMAN_… are left alone."""
    assert load(write(), {"POINTSMAN_CONFIG": "x", "POINTSMAN_REDIS_PASSWORD": "y"}) == load(write(), {})


@pytest.mark.parametrize(
    ("variable", "value", "key", "fragment"),
    [
        ("POINTSMAN_POLCY__WINDOW_S", "60", "polcy", "no such section"),
        ("POINTSMAN_POLICY__WINDOW", "60", "policy.window", "unknown key"),
        ("POINTSMAN_POLICY__WINDOW_S", "long", "policy.window_s", "must be a number"),
        ("POINTSMAN_POLICY__WINDOW_S", "-60", "policy.window_s", "-60 is not greater than 0"),
        (
            "POINTSMAN_PROVIDERS__GOOGLE__CREDENTIALS",
            "env:A",
            "providers.google.credentials",
            "must be a list",
        ),
        ("POINTSMAN_STORE", "{broken", "store", "must be a mapping"),
        ("POINTSMAN_STORE__URL", "http://x", "store.url", "no store's URL"),
        (
            "POINTSMAN_ROUTES__CHAT__WEIGHTS__BEDROCK_CHAT",
            "most",
            "routes.chat.weights.bedrock-chat",
            "a number",
        ),
    ],
)
def test_a_wrong_variable_is_named(write: Write, variable: str, value: str, key: str, fragment: str) -> None:
    """The problem names the variable in place of a line."""
    problem = only(write(), {variable: value})
    assert (problem.variable, problem.key) == (variable, key)
    assert fragment in problem.text
    assert str(problem).startswith(f"environment {variable}: {key}: ")


def test_origins_name_file_environment_and_default(write: Write) -> None:
    """Of every value it is known where it came from."""
    path = write(append="policy: {probe_failures: 2}\n")
    origins = read(path, {"POINTSMAN_POLICY__LIVE_FAILURES": "9"}).origins
    assert origins.describe(("policy", "probe_failures")) == f"{path}:17"
    assert origins.describe(("policy", "live_failures")) == "environment POINTSMAN_POLICY__LIVE_FAILURES"
    assert origins.describe(("policy", "window_s")) == "default"


def test_data_of_a_program_is_checked_like_a_file() -> None:
    """The rules hold for settings that were not read from a file, too."""
    with pytest.raises(ConfigError, match="there are no routes"):
        from_data(
            {"providers": {"a": {"family": "openai", "base_url": "https://a"}}, "targets": {}, "routes": {}}
        )


# --- the state's folder


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"STATE_DIRECTORY": "{tmp}/systemd:{tmp}/other", "XDG_STATE_HOME": "{tmp}/xdg"}, "systemd"),
        ({"XDG_STATE_HOME": "{tmp}/xdg"}, "xdg/pointsman"),
    ],
)
def test_the_state_folder_follows_the_environment(
    write: Write, tmp_path: Path, env: dict[str, str], expected: str
) -> None:
    """systemd's folder before the user's; it is made for its owner alone."""
    found = state_dir(load(write(), {}), {name: value.format(tmp=tmp_path) for name, value in env.items()})
    assert found == tmp_path / expected
    assert found.stat().st_mode & 0o777 == 0o700


def test_the_state_folder_of_the_settings_wins(write: Write, tmp_path: Path) -> None:
    """An explicit folder beats what systemd gives."""
    settings = load(write(append=f"state_dir: {tmp_path}/mine\n"), {})
    assert state_dir(settings, {"STATE_DIRECTORY": f"{tmp_path}/systemd"}) == tmp_path / "mine"


def test_a_state_folder_that_cannot_be_made_is_a_configuration_error(write: Write, tmp_path: Path) -> None:
    """A file in its way is told, not raised as an OSError."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="state_dir: the folder cannot be made"):
        state_dir(load(write(append=f"state_dir: {tmp_path}/file/below\n"), {}), {})
