"""Against a real SSH server on this machine; what all transports have in common is in tests/contracts."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from edgeprune.errors import DeviceError, MissingError
from edgeprune.file_hash import sha256_of
from edgeprune.transport import ssh
from edgeprune.transport.ssh import Host, SshTransport
from tests.sshd import cut_after, free_port, serving

ROUNDS = int(os.environ.get("EDGEPRUNE_CUTS", "3"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("sshd")) as one:
        yield one


@pytest.fixture
def to(tmp_path):
    """A way to a host, in a folder of its own."""
    made = []

    def to(host):
        made.append(SshTransport(host, python=sys.executable, base=str(tmp_path / "device")))
        return made[-1]

    yield to
    for one in made:
        one.close()


@pytest.fixture
def file(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    return tmp_path / "file"


def known(server, tmp_path, line):
    """A client's configuration that knows another key, or none."""
    (tmp_path / "known").write_text(line)
    (tmp_path / "config").write_text(f"UserKnownHostsFile {tmp_path}/known\nGlobalKnownHostsFile /dev/null\n")
    return replace(server.host(), config=tmp_path / "config")


def test_a_host_whose_key_is_not_known_is_refused_and_nobody_is_asked(server, to, file, tmp_path):
    with pytest.raises(MissingError, match="its host key is not known: compare `ssh-keyscan -p") as raised:
        to(known(server, tmp_path, "")).push(file, "a")
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> ~/.ssh/known_hosts" in str(raised.value)
    assert (tmp_path / "known").read_text() == ""


def test_a_host_with_another_key_than_the_known_one_is_refused(server, to, file, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    public = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    with pytest.raises(MissingError, match="is not the one that is known: somebody may be in between"):
        to(known(server, tmp_path, f"[127.0.0.1]:{server.port} {public}\n")).push(file, "a")
    assert not (tmp_path / "device").exists()


def test_a_host_that_lets_us_in_by_no_key_says_what_to_do(server, to, file, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "stranger")], check=True)
    with pytest.raises(MissingError, match="ssh-copy-id -p"):
        to(replace(server.host(), key=tmp_path / "stranger")).push(file, "a")


def test_a_port_where_nobody_listens_is_worth_another_try(server, to, file):
    with pytest.raises(DeviceError, match="Connection refused"):
        to(replace(server.host(), port=free_port())).push(file, "a")


def test_a_host_that_is_none_is_told(server, to, file):
    with pytest.raises(MissingError, match="no such host"):
        to(replace(server.host(), address="nowhere.invalid")).push(file, "a")


def test_what_the_users_configuration_calls_a_host_is_a_host(server, to, file, tmp_path):
    text = server.config.read_text()
    named = f"Host board\n HostName 127.0.0.1\n Port {server.port}\n IdentityFile {server.folder}/user\n"
    (tmp_path / "config").write_text(f"{text}HostKeyAlias [127.0.0.1]:{server.port}\n{named}")
    transport = to(Host("board", config=tmp_path / "config"))
    transport.push(file, "a")
    transport.pull("a", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"content"


def test_no_shell_of_ours_or_theirs_reads_a_word_as_its_own(server, to, tmp_path):
    words = ["$HOME", "`id`", "a'b\"c", "; exit 3", "*", "\\", "x\ny", ""]
    process = to(server.host()).start(["printf", "%s|", *words])
    assert process.communicate()[0] == "".join(f"{word}|" for word in words)


def test_a_process_starts_in_the_work_folder_or_outside(server, to):
    transport = to(server.host())
    inside, outside = (transport.start(["pwd"], outside=told).communicate()[0].strip() for told in (False, True))
    assert inside == f"{outside}/work"
    assert outside.endswith(transport.base)


def test_equal_content_is_sent_once(server, to, tmp_path):
    content = random.Random(0).randbytes(3_000_000)
    (tmp_path / "one").write_bytes(content)
    with cut_after(1 << 40, server.port) as (port, sent):
        transport = to(replace(server.host(), port=port, config=through(server, port, tmp_path)))
        transport.push(tmp_path / "one", "a/first")
        once = sent[0]
        transport.push(tmp_path / "one", "b/second")
        assert once > 3_000_000
        assert sent[0] - once < 100_000
        transport.pull("b/second", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def through(server, port, folder):
    """A configuration that knows the server's key behind a way of ours."""
    public = (server.folder / "known").read_text().partition(" ")[2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {public}")
    text = server.config.read_text().replace(f"{server.folder}/known", f"{folder}/known")
    (folder / "config").write_text(text)
    return folder / "config"


def test_a_connection_lost_at_any_byte_leaves_a_whole_file_or_none_and_goes_on_where_it_stopped(server, to, tmp_path):
    size = 200_000
    (tmp_path / "one").write_bytes(random.Random(1).randbytes(size))
    goal = tmp_path / "device" / "work" / "deep" / "one"
    lost, resumed, instants = 0, 0, random.Random(2)
    for _ in range(ROUNDS):
        shutil.rmtree(tmp_path / "device", ignore_errors=True)
        cut = instants.randrange(500, size + 20_000)
        with cut_after(cut, server.port) as (port, _):
            try:
                to(replace(server.host(), port=port, config=through(server, port, tmp_path))).push(
                    tmp_path / "one", "deep/one"
                )
            except DeviceError:
                lost += 1
        assert not goal.exists() or goal.read_bytes() == (tmp_path / "one").read_bytes()
        time.sleep(0.2)  # the server writes what had come
        partial = sum(path.stat().st_size for path in (tmp_path / "device").rglob("*.partial"))
        with cut_after(1 << 40, server.port) as (port, sent):
            to(replace(server.host(), port=port, config=through(server, port, tmp_path))).push(
                tmp_path / "one", "deep/one"
            )
            resumed += sent[0] < size - partial + 50_000
        assert goal.read_bytes() == (tmp_path / "one").read_bytes()
    assert lost >= 1
    assert resumed == ROUNDS


def test_a_partial_file_of_other_bytes_is_found_out_and_sent_anew(server, to, tmp_path, file):
    transport = to(server.host())
    name = sha256_of(file)
    blobs = tmp_path / "device" / "work" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{name}.partial").write_bytes(b"cxx")
    with pytest.raises(DeviceError, match="other bytes arrived"):
        transport.push(file, "a")
    transport.push(file, "a")
    assert (tmp_path / "device" / "work" / "a").read_bytes() == b"content"


def test_a_pull_that_is_cut_off_leaves_nothing_here(server, to, tmp_path):
    (tmp_path / "device" / "work").mkdir(parents=True)
    (tmp_path / "device" / "work" / "big").write_bytes(os.urandom(40_000_000))
    transport = to(server.host())
    transport.start(["true"]).wait()
    assert transport._master is not None
    threading.Timer(0.1, transport._master.kill).start()

    def pull():
        for _ in range(20):
            transport.pull("big", tmp_path / "back")
            (tmp_path / "back").unlink()

    with pytest.raises(DeviceError, match=r"lost|closed"):
        pull()
    assert not list(tmp_path.glob("back*"))


def test_a_pull_is_bounded(server, to, tmp_path, monkeypatch):
    (tmp_path / "device" / "work").mkdir(parents=True)
    (tmp_path / "device" / "work" / "big").write_bytes(b"x" * 300_000)
    monkeypatch.setattr(ssh, "MOST_BYTES", 100_000)
    with pytest.raises(DeviceError, match="larger than 100000 bytes"):
        to(server.host()).pull("big", tmp_path / "back")
    assert not list(tmp_path.glob("back*"))


def test_a_shell_that_prints_when_it_starts_is_told(server, to, file, tmp_path):
    text = (server.folder / "authorized").read_text()
    (server.folder / "authorized").write_text(f'command="echo welcome; eval \\"$SSH_ORIGINAL_COMMAND\\"" {text}')
    try:
        with pytest.raises(MissingError, match="its shell prints 'welcome' when it starts"):
            to(server.host()).push(file, "a")
    finally:
        (server.folder / "authorized").write_text(text)


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ("bash: line 1: x\nConnection reset by 10.0.0.1 port 22", DeviceError, "lost: Connection reset"),
        ("", DeviceError, "ssh ended without a word"),
        ("root@x: Permission denied (publickey).", MissingError, "ssh-copy-id root@x"),
    ],
)
def test_what_ssh_says_becomes_what_to_do(said, kind, told):
    assert told in str(Host("x", user="root").explained(said))
    assert isinstance(Host("x", user="root").explained(said), kind)
