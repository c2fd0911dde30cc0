"""Promises of orchestra/files/bucket.py, with a real S3-compatible server."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from orchestra.files import marker
from orchestra.files.bucket import Bucket
from orchestra.files.home import new_key
from orchestra.files.opening import open_home
from orchestra.settings import FileSettings
from tests.support.homes import (
    MIB,
    SECRETS,
    check_away,
    check_broken_put,
    check_cancelled_put,
    check_marker,
    check_round_trip,
    chunks_of,
    keys_of,
    read,
)
from tests.support.s3 import S3, open_s3


@pytest.fixture
async def s3(tmp_path: Path) -> AsyncIterator[S3]:
    async with open_s3(tmp_path) as opened:
        yield opened


@pytest.fixture
def unmarked(s3: S3) -> Bucket:
    home = open_home(FileSettings.model_validate({name.lower(): value for name, value in s3.env.items()}))
    assert isinstance(home, Bucket)
    return home


@pytest.fixture
async def home(unmarked: Bucket) -> Bucket:
    await marker.claim(unmarked, SECRETS)
    return unmarked


@pytest.mark.parametrize("size", [1, MIB, 12 * MIB + 1])
async def test_a_blob_comes_back_as_it_was(home: Bucket, size: int) -> None:
    """Whole and in parts, until it is deleted."""
    await check_round_trip(home, size)


async def test_a_put_that_fails_leaves_nothing(home: Bucket, s3: S3) -> None:
    """Neither an object nor parts of one, which would cost money unseen."""
    await check_broken_put(home)

    assert [] == s3.parts_left()


async def test_a_put_that_is_cancelled_leaves_nothing(home: Bucket, s3: S3) -> None:
    """A gateway that stops in the middle of an upload takes back the parts that it sent."""
    await check_cancelled_put(home)

    assert [] == s3.parts_left()


async def test_a_bucket_has_one_deployment(unmarked: Bucket) -> None:
    """Its marker says which, and another one is refused."""
    await check_marker(unmarked)


async def test_the_server_itself_can_send_a_blob(home: Bucket) -> None:
    """A presigned URL gives the blob without credentials; another one's URL does not."""
    key = new_key()
    await home.put(key, chunks_of(b"for a provider"))
    url = await home.presigned_url(key, 60)
    assert url is not None

    async with httpx.AsyncClient() as client:
        assert b"for a provider" == (await client.get(url)).content
        assert 403 == (await client.get(url.replace(key, new_key()))).status_code


async def test_the_server_away_and_back(home: Bucket, s3: S3) -> None:
    """While it is away each call says so; when it is back, all is there."""
    key = new_key()
    await home.put(key, chunks_of(b"kept"))
    await s3.go_away()

    await check_away(home)

    await s3.come_back()
    await home.check()
    assert {key} == await keys_of(home)
    assert b"kept" == await read(home, key)
