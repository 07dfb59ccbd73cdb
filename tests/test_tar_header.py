import io
import tarfile
from pathlib import Path

from synth.shards import ShardWriter


def test_a_shard_has_the_bytes_that_tarfile_writes(tmp_path: Path) -> None:
    samples = [(f"{7**i % 10**9:09d}", {"png": bytes(range(256)) * i, "json": b"{}" * 256 * (i % 3)}) for i in range(25)]
    expected = io.BytesIO()
    with tarfile.TarFile(fileobj=expected, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for key, files in samples:
            for extension, data in files.items():
                member = tarfile.TarInfo(f"{key}.{extension}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    with ShardWriter(str(tmp_path / "shard.tar")) as writer:
        for key, files in samples:
            writer.add(key, files)
    assert (tmp_path / "shard.tar").read_bytes() == expected.getvalue()
