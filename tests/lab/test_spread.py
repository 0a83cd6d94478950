from __future__ import annotations

import io
import tarfile
from concurrent.futures import Future
from pathlib import Path

import pytest

from edgeprune.errors import ConfigError, DeviceError, InputError, UnknownNameError
from edgeprune.lab.spread import Tls, _received, check_address, compile_many
from edgeprune.recipe import Recipe

TLS = Tls(Path("ca.pem"), Path("cert.pem"), Path("key.pem"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "127.0.0.1:8786", "localhost:8786", "tcp://[::1]:8786"])
def test_this_machine_needs_no_tls(address):
    check_address(address, None)


@pytest.mark.parametrize("address", ["tcp://10.0.0.3:8786", "build-host:8786", "tls://build-host:8786"])
def test_another_machine_does(address):
    with pytest.raises(InputError, match="is not this machine, and anybody there could run code"):
        check_address(address, None)
    check_address(address.replace("tcp://", "tls://") if "://" in address else f"tls://{address}", TLS)


def test_tls_that_would_not_be_used_is_refused():
    with pytest.raises(InputError, match="begins with tls://"):
        check_address("tcp://10.0.0.3:8786", TLS)


@pytest.mark.parametrize("address", ["", "8786", "tcp://127.0.0.1", "http://127.0.0.1:8786", "tcp://127.0.0.1:port"])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InputError, match="no address"):
        check_address(address, None)


@pytest.mark.parametrize(
    ("model", "target", "kind", "said"),
    [
        ("net.onnx", "rpi5", ConfigError, "a file of this machine: name a model"),
        ("net.py:small", "rpi5", ConfigError, "a file of this machine: name a model"),
        ("cnn", "mine.yaml", ConfigError, "a file of this machine: name one of"),
        ("cnn", "rpi6", UnknownNameError, "did you mean 'rpi5'"),
    ],
)
def test_what_is_not_on_the_hosts_is_refused_before_anything_is_done(tmp_path, model, target, kind, said):
    with pytest.raises(kind, match=said):
        compile_many([model], [target], {}, scheduler="127.0.0.1:1", tls=None, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_does_not_answer_is_told(tmp_path, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("edgeprune.lab.spread.CONNECT_S", 1)
    with pytest.raises(DeviceError, match="no scheduler answers"):
        compile_many(["cnn"], ["rpi5"], {}, scheduler="tcp://127.0.0.1:9", tls=None, out=tmp_path)


def answered(**answer):
    future: Future[object] = Future()
    future.set_result({"archive": b"", "error": "", "message": "", **answer})
    return future


def packed(folder, **more):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(folder, ".")
        for name in more.get("names", ()):
            archive.addfile(tarfile.TarInfo(name))
    return stream.getvalue()


def test_what_a_host_made_is_verified_and_put_in_its_place(bundle, tmp_path):
    found = _received(Recipe(), "rpi5", answered(archive=packed(bundle.root)), tmp_path / "out")
    assert found.error is None
    assert found.bundle == tmp_path / "out" / "cnn-rpi5"
    assert (found.bundle / "bundle.json").is_file()
    again = _received(Recipe(), "rpi5", answered(archive=packed(bundle.root)), tmp_path / "out")
    assert again.error is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cnn-rpi5"]


@pytest.mark.parametrize("how", ["altered", "outside", "cut off", "failed", "nothing"])
def test_what_a_host_sends_else_leaves_nothing(bundle, tmp_path, how):
    whole = packed(bundle.root, names=["../evil"] if how == "outside" else [])
    if how == "altered":
        (bundle.root / "samples.npz").write_bytes(b"other")
        whole = packed(bundle.root)
    future: Future[object] = Future()
    future.set_exception(RuntimeError("out of memory"))
    sent = {"cut off": whole[:3000], "nothing": b""}.get(how, whole)
    found = _received(Recipe(), "rpi5", future if how == "failed" else answered(archive=sent), tmp_path / "out")
    assert found.bundle is None
    assert found.error is not None
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    assert not (tmp_path / "evil").exists()


def test_a_budget_that_is_not_met_comes_back_with_the_bundle(bundle, tmp_path):
    sent = answered(archive=packed(bundle.root), error="BudgetError", message="loses too much")
    found = _received(Recipe(), "rpi5", sent, tmp_path)
    assert (found.bundle is not None, found.reason) == (True, "loses too much")
    assert found.error is not None
    assert found.error.exit_code == 3
