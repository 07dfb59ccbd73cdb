from collections.abc import Iterator

import pytest
import requests

from synth import verify
from synth.errors import UserError
from synth.pipeline import RenderRequest, estimate
from synth.sets.shards import ShardSet
from tests.kit import make_small, pictures, tar_hashes


def test_a_set_on_s3_is_the_set_on_disk(bucket: str, undisturbed: object) -> None:
    assert make_small(bucket).pictures == 40
    assert tar_hashes(bucket) == tar_hashes(undisturbed)
    assert ShardSet(bucket).digest == ShardSet(str(undisturbed)).digest
    assert make_small(bucket).pictures == 0
    assert [s for _, s in verify.damages(ShardSet(bucket), 4)] == [None, None, None]


@pytest.mark.slow
def test_a_set_on_s3_grows_and_mends(bucket: str, undisturbed: object) -> None:
    make_small(bucket, samples=20)
    storage = ShardSet(bucket).storage
    storage.write("visual_atoms-000000.tar", b"spoilt")
    assert make_small(bucket).pictures == 16 + 16 + 8
    assert tar_hashes(bucket) == tar_hashes(undisturbed)
    with pytest.raises(UserError, match="seed is 0 there and 1 here"):
        make_small(bucket, seed=1)
    make_small(bucket, seed=1, overwrite=True)
    assert tar_hashes(bucket) != tar_hashes(undisturbed)


@pytest.mark.usefixtures("ray_session")
def test_ray_workers_write_to_s3(bucket: str, undisturbed: object) -> None:
    make_small(bucket, workers=2)
    assert pictures(bucket) == pictures(undisturbed)


def test_a_missing_bucket_is_told(bucket: str) -> None:
    for url in ("s3://nowhere/atoms", "s3://nowhere"):
        with pytest.raises(UserError, match="there is no bucket 'nowhere'"):
            make_small(url)
        with pytest.raises(UserError, match="there is no bucket 'nowhere'"):
            estimate(RenderRequest("visual_atoms", 10, url))


@pytest.fixture
def strict(bucket: str, s3_server: str) -> Iterator[str]:
    """The bucket, on a server that now looks at credentials."""
    requests.post(f"{s3_server}/moto-api/reset-auth", data="0", timeout=10)
    yield bucket
    requests.post(f"{s3_server}/moto-api/reset-auth", data="inf", timeout=10)


@pytest.mark.slow
def test_wrong_credentials_are_told(strict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    with pytest.raises(UserError, match="may not be read or written with these rights or credentials"):
        make_small(strict)


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_told(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("synth.sets.storage.ATTEMPTS", 1)  # s3fs has tried several times by then
    with pytest.raises(UserError, match="cannot be reached"):
        make_small(bucket)
