"""Promises of orchestra/addresses.py: addresses that can never be reached are distinguished from those that may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.addresses import is_host_and_port, is_http_url, split_url


@pytest.mark.parametrize("text", ["kafka:9092", "kafka", "127.0.0.1:19092", "[::1]:9092", "[::1]", "::1", "a-b.c_d:1"])
def test_hosts(text: str) -> None:
    """With a port or without."""
    assert is_host_and_port(text)


@pytest.mark.parametrize(
    "text", ["", ":9092", "kafka:", "kafka:0", "kafka:65536", "kafka:x", "kafka:-1", "PLAINTEXT://kafka:9092", "a:1/x",
             "a@b:1", "a:1:2", "a..b:1", f"{'a' * 64}:1", "[::1", "a:1?x", "a:1#x"],
)  # fmt: skip
def test_what_is_no_host(text: str) -> None:
    """Nothing to connect to, or more than that."""
    assert not is_host_and_port(text)


@pytest.mark.parametrize("url", ["http://a", "https://a:65535/v1", "http://[::1]:1", "http://u:p@a:1", "HTTP://a"])
def test_urls(url: str) -> None:
    """Of a scheme and host that may be called."""
    assert is_http_url(url)


@pytest.mark.parametrize("url", ["", "a:1", "ftp://a", "http://", "http://:1", "http://a:0", "http://a:99999",
                                 "http://a:x", "http://[::1", "http:///x", "//a",
                                 "http://a..b"])  # fmt: skip
def test_what_is_no_url(url: str) -> None:
    """No server could be reached there."""
    assert not is_http_url(url)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    """Whatever it is, nothing is raised."""
    for judge in (split_url, is_http_url, is_host_and_port):
        judge(text)
        judge(f"http://{text}")
