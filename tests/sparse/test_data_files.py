"""Files: the idx format, checksums, folders, downloads from a server on loopback, real sets."""

from __future__ import annotations

import gzip
import hashlib
import re
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sparse.data_files import data_dir

from dnc_sparse.data import DataFile, available, find_file, load, read_idx
from dnc_sparse.data.images import NAMES, image_set

PAYLOAD = bytes(range(256)) * 8
FILE = DataFile("toy", "toy.bin", hashlib.sha256(PAYLOAD).hexdigest())


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([1, 0], np.uint8)
IDX_FILES = {
    name: gzip.compress(idx(IMAGES if "images" in name else LABELS), mtime=0) for name in NAMES
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        folder, _, name = self.path.strip("/").partition("/")
        content = {FILE.name: PAYLOAD, **IDX_FILES}.get(name)
        if folder not in ("good", "wrong", "truncated") or content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if folder == "wrong":
            content = b"\x00" * len(content)
        self.wfile.write(content[: len(content) // 2] if folder == "truncated" else content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder)
    monkeypatch.delenv("DNC_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("array", [IMAGES, LABELS, np.zeros((0, 3), np.uint8)])
def test_idx_round_trip(tmp_path: Path, array: np.ndarray, pack: type[bytes]) -> None:
    path = tmp_path / "some-idx"
    path.write_bytes(pack(idx(array)))
    assert np.array_equal(read_idx(path), array)
    assert read_idx(path).shape == array.shape


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an idx file of uint8: expected .* dimensions, found an empty file$"),
        (b"\x00\x00\x0d\x01", "is not an idx file of uint8: expected .* found 00 00 0d 01$"),
        (b"\x00\x00\x08\x03\x00", "is truncated: 3 dimensions need a header of 16 bytes, found 5$"),
        (idx(IMAGES)[:-5], "is truncated: its header promises 2 x 3 x 4 = 24 values, found 19$"),
        (idx(LABELS) + b"!", "is too long: its header promises 2 = 2 values, found 3$"),
        (
            gzip.compress(idx(IMAGES), mtime=0)[:-9],
            "is truncated or damaged: its gzip stream of .* bytes do",
        ),
        (
            gzip.compress(idx(IMAGES), mtime=0)[:12] + b"\xff" * 30,
            "is truncated or damaged: its gzip strea",
        ),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some-idx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} {message}"):
        read_idx(path)


@pytest.mark.parametrize("inner", ["toy", "."])
def test_a_local_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str) -> None:
    path = tmp_path / "mine" / inner / FILE.name
    path.parent.mkdir(parents=True)
    path.write_bytes(PAYLOAD)
    assert find_file(FILE, tmp_path / "mine") == path
    monkeypatch.setenv("DNC_DATA", str(tmp_path / "mine"))
    assert find_file(FILE) == path
    empty = tmp_path / "empty"
    empty.mkdir()
    assert find_file(FILE, empty) == path


def test_a_local_file_with_another_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / FILE.name
    path.write_bytes(PAYLOAD[:-1])
    found = hashlib.sha256(PAYLOAD[:-1]).hexdigest()
    told = (
        f"^{re.escape(str(path))} is damaged or not the toy file: expected sha256 {FILE.sha256}, "
        f"found {found}; replace it with the published file, or "
    )
    with pytest.raises(ValueError, match=told + "point to a folder that has it"):
        find_file(FILE, tmp_path)
    with pytest.raises(ValueError, match=told + "remove it so that it is downloaded$"):
        find_file(DataFile(FILE.folder, FILE.name, FILE.sha256, "http://127.0.0.1"), tmp_path)


def test_a_missing_file_names_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=rf"^toy/toy\.bin \(sha256 {FILE.sha256}\) not found in a data folder \(none given, "
        r"DNC_DATA not set\); put it into a folder given by data_dir \(--data-dir\) or DNC_DATA; "
        r"no public host offers it$",
    ):
        find_file(FILE)
    with pytest.raises(
        FileNotFoundError,
        match=rf"^mnist/train-images-idx3-ubyte\.gz \(sha256 440fca.*\) not found in data_dir "
        rf"{re.escape(str(tmp_path))}; .*, or allow the download \(download=True\)$",
    ):
        load("mnist", tmp_path, download=False)
    with pytest.raises(
        FileNotFoundError, match=r"^data folder nowhere \(data_dir\) does not exist"
    ):
        find_file(FILE, "nowhere")


def test_a_file_is_no_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mnist"
    file.touch()
    text = (
        rf"^data folder {file} \({{}}\) is a file; give the folder that holds toy/toy\.bin, "
        rf"or none to download$"
    )
    with pytest.raises(NotADirectoryError, match=text.format("data_dir")):
        find_file(FILE, file)
    monkeypatch.setenv("DNC_DATA", str(file))
    with pytest.raises(NotADirectoryError, match=text.format("DNC_DATA")):
        find_file(FILE)
    rows = {row.name: row for row in available(file)}
    assert rows["mnist"].where.startswith(f"data folder {file} (data_dir) is a file; give the")


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ("http://127.0.0.1:1", r"ConnectionError: .{0,60}\[Errno 111\] Connection refused"),
        ("http://nowhere.invalid", "ConnectionError: .{0,90}"),
    ],
)
def test_an_offline_download_is_one_short_line(
    mirror: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with pytest.raises(
        FileNotFoundError,
        match=rf"^cannot download {mirror}/toy\.bin \({reason}\); try again, or p",
    ) as caught:
        find_file(FILE, mirror=mirror)
    assert len(str(caught.value)) < 350
    assert "object at" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_download_is_checked_and_kept(server: str, cache: Path) -> None:
    path = find_file(FILE, mirror=f"{server}/good/")
    assert path == cache / "toy" / "toy.bin"
    assert path.read_bytes() == PAYLOAD
    assert find_file(FILE, download=False) == path
    path.write_bytes(b"spoilt since")
    assert find_file(FILE, mirror=f"{server}/good").read_bytes() == PAYLOAD


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("wrong", "ValueError: SHA256 hash of downloaded file"),
        ("truncated", "ChunkedEncodingError: [^()]*"),
        ("absent", "HTTPError: 404 Client Error"),
    ],
)
def test_a_failed_download_leaves_nothing(
    server: str, cache: Path, folder: str, reason: str
) -> None:
    url = f"{server}/{folder}/toy.bin"
    with pytest.raises(
        FileNotFoundError,
        match=rf"^cannot download {url} \({reason}.*\); try again, or put toy/toy\.bin \(sha256 "
        rf"{FILE.sha256}\) into a folder given by data_dir \(--data-dir\) or DNC_DATA$",
    ):
        find_file(FILE, mirror=f"{server}/{folder}")
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_an_image_set_is_downloaded_and_scaled(server: str) -> None:
    files = tuple(
        DataFile("tiny", name, hashlib.sha256(content).hexdigest(), f"{server}/good")
        for name, content in IDX_FILES.items()
    )
    data = image_set(files, ("zero", "one"))
    assert (data.name, data.image_shape) == ("tiny", (3, 4))
    assert torch.equal(data.test.x, torch.from_numpy(IMAGES.reshape(2, 12)) / 255)
    assert data.train.y.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_published_image_sets(name: str) -> None:
    data = load(name, data_dir(name))
    assert data.train.x.shape == (60000, 784)
    assert data.test.x.shape == (10000, 784)
    assert data.image_shape == (28, 28)
    assert (float(data.train.x.min()), float(data.train.x.max())) == (0, 1)
    # the mean grey values that every tutorial on the two sets normalises by
    mean = {"mnist": 0.1307, "fashion-mnist": 0.2860}[name]
    assert float(data.train.x.mean()) == pytest.approx(mean, abs=5e-5)
    assert len(data.class_names) == data.n_classes == 10


@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [("reuters-r8", 5485, 2189, 8), ("20-newsgroups", 11314, 7532, 20)],
)
def test_the_published_text_sets(name: str, train: int, test: int, classes: int) -> None:
    data = load(name, data_dir(name), features=300)
    assert (len(data.train), len(data.test), data.n_classes) == (train, test, classes)
    assert data.n_features == 300
    assert float(data.train.x.min()) == 0
    # counts stop at 255
    assert 10 ** float(data.train.x.max()) < 256.5


@given(place=st.integers(0, 10**6), mask=st.integers(1, 255))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_one_damaged_byte_is_seen(tmp_path: Path, place: int, mask: int) -> None:
    content = bytearray(IDX_FILES["train-images-idx3-ubyte.gz"])
    content[place % len(content)] ^= mask
    path = tmp_path / "some-idx"
    path.write_bytes(content)
    message = str(path)
    try:
        # the bytes of a gzip header that carry no data may change
        assert np.array_equal(read_idx(path), IMAGES)
    except ValueError as error:
        message = str(error)
    assert message.startswith(str(path))
