"""What is read of a body, and the one change that is made to it."""

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.proxy.body import BodyError, decompressed, read_head, zstd
from pointsman.proxy.body import with_model as with_model_at


def with_model(body: bytes, model: str) -> bytes:
    """`body` with another model, as a request's forwarding does it."""
    return b"".join(with_model_at(body, read_head(body).places, json.dumps(model).encode()))


TEXT = st.text(max_size=20) | st.sampled_from(['"model": "x"', "model", '\\"model\\":"y"', '{"model":"z"}'])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@given(
    before=st.dictionaries(TEXT, JSON, max_size=3),
    after=st.dictionaries(TEXT, JSON, max_size=3),
    name=st.text(min_size=1, max_size=20),
    new=st.text(min_size=1, max_size=20),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_only_the_models_name_changes(
    before: dict[str, Any], after: dict[str, Any], name: str, new: str, ascii_only: bool, indent: int | None
) -> None:
    """Whatever stands around it, the decoded body differs in the model alone."""
    value = {**before, "model": name, **{key: item for key, item in after.items() if key != "model"}}
    body = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    try:
        changed = with_model(body, new)
    except UnicodeEncodeError:
        return
    assert json.loads(changed) == value | {"model": new}


def test_every_other_byte_stays_as_it_was() -> None:
    """Odd spacing, escapes and number forms survive."""
    body = b'{ "x" : 1.50e0,\t"model":"gpt" , "t":"\\u00e9\\/" }'
    assert with_model(body, "other") == b'{ "x" : 1.50e0,\t"model":"other" , "t":"\\u00e9\\/" }'


def test_a_nested_model_is_left_alone() -> None:
    """A tool's parameter called model is not the request's."""
    body = b'{"tools":[{"properties":{"model":"inner"}}],"model":"outer","metadata":{"model":"inner"}}'
    changed = json.loads(with_model(body, "new"))
    assert changed["model"] == "new"
    assert changed["tools"][0]["properties"]["model"] == changed["metadata"]["model"] == "inner"


def test_a_repeated_or_escaped_key_is_found_too() -> None:
    """Which of two a provider takes is its own affair: both are exchanged."""
    assert with_model(b'{"model":"a","model":"b"}', "n") == b'{"model":"n","model":"n"}'
    assert (
        with_model(b'{"m\\u006fdel":"a","x":{"model":"b"}}', "n") == b'{"m\\u006fdel":"n","x":{"model":"b"}}'
    )


@pytest.mark.parametrize("name", ['a",', "a\\", '","stream":true,"x":"', "é"])
def test_a_name_that_is_escaped_is_read_to_its_end(name: str) -> None:
    """As the first thing in the body, where it is looked for without a decoder."""
    head = read_head(json.dumps({"model": name, "stream": False}).encode())
    assert (head.model, head.stream) == (name, False)


def test_the_head_is_read() -> None:
    """Model, stream and what a caller may be known by."""
    head = read_head(
        b'{"model":"m","stream":true,"metadata":{"user_id":"u"},"previous_response_id":"resp_1","messages":[1,2]}'
    )
    assert (head.model, head.stream, head.user, head.previous_response_id) == ("m", True, "u", "resp_1")


@pytest.mark.parametrize(
    ("body", "names_one"),
    [
        (b'{"model":"m","input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}', True),
        (b'{"model":"m","messages":[{"content":[{"type":"file","file":{"file_id" : "file-1"}}]}]}', True),
        (b'{"model":"m","messages":[{"content":[{"source":{"type":"file","file_id":"file_1"}}]}]}', True),
        (b'{"model":"m","tools":[{"container":{"type":"auto","file_ids": [ "file-1"]}}]}', True),
        (b'{"model":"m","tools":[{"properties":{"file_id":{"type":"string"}}}]}', False),
        (b'{"model":"m","messages":[{"content":"say \\"file_id\\":\\"file-1\\""}]}', False),
        (b'{"model":"m","messages":[{"content":[{"type":"tool_use","input":{"file_id":"42"}}]}]}', False),
    ],
)
def test_a_file_that_was_uploaded_is_seen(body: bytes, names_one: bool) -> None:
    """In whichever API; a tool's parameter of that name and talk about one are not it."""
    assert read_head(body).file is names_one


def test_fields_of_a_wrong_type_are_the_providers_to_refuse() -> None:
    """Only the model has to be a string here."""
    head = read_head(b'{"model":"m","stream":"yes","user":5,"metadata":[]}')
    assert (head.stream, head.user) == (False, "")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"model":5}',
        b'{"model":""}',
        b'{"model":"","x":1}',
        b'{"model":"m" "x":1}',
        b"\xff",
    ],
)
def test_a_body_without_a_model_is_refused(body: bytes) -> None:
    """There is nothing to route by."""
    with pytest.raises(BodyError):
        read_head(body)


def test_compressed_bodies_are_read() -> None:
    """gzip, deflate and zstd, one after the other if need be."""
    assert decompressed(gzip.compress(b"plain"), "gzip", 100) == b"plain"
    assert decompressed(zstd.compress(b"plain"), "zstd", 100) == b"plain"
    assert decompressed(zstd.compress(gzip.compress(b"plain")), "gzip, zstd", 100) == b"plain"
    assert decompressed(zlib.compress(gzip.compress(b"plain")), "gzip, deflate", 100) == b"plain"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"x" * 101, mtime=0), "gzip"),
        (gzip.compress(b"plain", mtime=0)[:-9], "gzip"),
        (b"no gzip", "gzip"),
        (zstd.compress(b"x" * 101), "zstd"),
        (zstd.compress(b"plain")[:-2], "zstd"),
        (b"no zstd", "zstd"),
        (b"x", "br"),
    ],
)
def test_what_cannot_be_read_within_bounds_is_refused(body: bytes, encoding: str) -> None:
    """Bombs, cuts, lies and unknown encodings."""
    with pytest.raises(BodyError):
        decompressed(body, encoding, 100)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a\xff"}',
        b'{"model":"m","user":"\xff"}',
        b'{"model":"m","metadata":{"user_id":"\xff"}}',
        b'{"model":"m","user":"\\ud800"}',
        b'{"model":"m","x":' + b"[" * 9999,
        b'{"model":"m","metadata":{"x":' + b"[" * 9999 + b"]" * 9999 + b"}}",
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    """Bytes that are no UTF-8, half a character, nesting without end: the caller's own."""
    with pytest.raises(BodyError):
        read_head(body)


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        (b'{"model":5,"model":"a"}', b'{"model":5,"model":"n"}'),
        (b'{"x\\"model":"q","model" :\n"a\\\\"}', b'{"x\\"model":"q","model" :\n"n"}'),
        (b'{"x":["model"],"y":{"model":"q"},"model":"a"}', b'{"x":["model"],"y":{"model":"q"},"model":"n"}'),
        (b'{"x":"\\\\","model":"a","y":"\\"model\\":1"}', b'{"x":"\\\\","model":"n","y":"\\"model\\":1"}'),
        (b'{"\\u006D\\u006F\\u0064\\u0065\\u006C":"a","x":"model"}', None),
    ],
)
def test_keys_that_only_look_alike(body: bytes, changed: bytes | None) -> None:
    """In strings, at the end of other keys, further down, and in escapes."""
    expected = changed or b'{"\\u006D\\u006F\\u0064\\u0065\\u006C":"n","x":"model"}'
    assert with_model(body, "n") == expected


def test_a_key_without_number_is_refused() -> None:
    """The work for one request is bounded."""
    with pytest.raises(BodyError, match="more than"):
        read_head(b'{"x":[' + b'{"model":1},' * 100_000 + b'1],"model":"m","y":[]}')


@pytest.mark.parametrize(
    "filling",
    [b'"' + b"lorem ipsum \\n dolor " * 200_000 + b'"', b'[{"a":[1,2]},' + b'{"a":1},' * 400_000 + b"1]"],
)
def test_a_large_body_is_not_kept_many_times(filling: bytes) -> None:
    """With a second key "model" as with one: a copy to look at and the copy to send, and next to nothing else."""
    body = b'{"model":"a","x":' + filling + b',"tools":[{"model":"sonnet"}]}'
    tracemalloc.start()
    try:
        changed = with_model(body, "b")
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert changed == body.replace(b'"a"', b'"b"', 1)
    assert peak_bytes < 2.5 * len(body)
