"""Kubeconfig files: nothing of others is ever lost."""

from __future__ import annotations

import json
import stat
import threading

import pytest
import yaml

from pilothouse.kubeclient import kubeconfig
from pilothouse.kubeclient.kubeconfig import (
    KubeconfigError,
    client_config,
    default_path,
    in_cluster_config,
    load,
    load_merged,
    make,
    merge_context,
    remove_context,
)


def mine(name="mine", server="https://127.0.0.1:1"):
    return make(
        name, server, ca_data=b"CA", client_certificate_data=b"CERT", client_key_data=b"KEY"
    )


THEIRS = """\
apiVersion: v1
kind: Config
preferences: {colors: true}
current-context: theirs
clusters:
- {name: theirs, cluster: {server: "https://other", extensions: [{name: x, extension: {a: 1}}]}}
contexts:
- {name: theirs, context: {cluster: theirs, user: theirs, namespace: ns}}
users:
- {name: theirs, user: {token: secret}}
"""


def test_merge_keeps_everything_of_others(tmp_path):
    path = tmp_path / "config"
    path.write_text(THEIRS)
    merge_context(path, mine())
    config = yaml.safe_load(path.read_text())
    theirs = yaml.safe_load(THEIRS)
    assert config["preferences"] == theirs["preferences"]
    for field in ("clusters", "contexts", "users"):
        assert config[field][0] == theirs[field][0]
        assert config[field][1]["name"] == "mine"
    assert config["current-context"] == "mine"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["config"]


def test_merge_again_replaces_and_remove_restores(tmp_path):
    path = tmp_path / "config"
    path.write_text(THEIRS)
    merge_context(path, mine())
    merge_context(path, mine(server="https://127.0.0.1:2"))
    config = load(path)
    assert len(config["clusters"]) == 2
    assert config["clusters"][1]["cluster"]["server"] == "https://127.0.0.1:2"
    assert remove_context(path, "mine")
    expected = yaml.safe_load(THEIRS) | {"current-context": ""}
    assert load(path) == expected
    assert not remove_context(path, "mine")


def test_new_file_in_a_new_folder(tmp_path):
    path = tmp_path / ".kube" / "config"
    merge_context(path, mine())
    config = client_config(load(path))
    assert (config.server, config.ca_data) == ("https://127.0.0.1:1", b"CA")
    assert (config.client_certificate_data, config.client_key_data) == (b"CERT", b"KEY")


@pytest.mark.parametrize("text", ["{", "a: [", "- just\n- a list\n", "clusters: 5\n"])
def test_damaged_file_is_left_alone(tmp_path, text):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigError):
        merge_context(path, mine())
    assert path.read_text() == text
    assert not (tmp_path / "config.lock").exists()


def test_link_stays_a_link(tmp_path):
    real = tmp_path / "real"
    real.write_text(THEIRS)
    link = tmp_path / "config"
    link.symlink_to(real)
    merge_context(link, mine())
    assert link.is_symlink()
    assert len(load(real)["clusters"]) == 2


def test_many_at_once_lose_nothing(tmp_path):
    path = tmp_path / "config"
    threads = [threading.Thread(target=merge_context, args=(path, mine(f"c{i}"))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {c["name"] for c in load(path)["clusters"]} == {f"c{i}" for i in range(8)}


def test_locked_file_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(kubeconfig, "LOCK_TIMEOUT", 0.05)
    path = tmp_path / "config"
    (tmp_path / "config.lock").touch()
    with pytest.raises(KubeconfigError, match="remove that file"):
        merge_context(path, mine())


def test_several_files_first_wins(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    merge_context(one, mine("a", "https://one"))
    merge_context(two, mine("a", "https://two"))
    merge_context(two, mine("b", "https://b"))
    environ = {"KUBECONFIG": f"{one}:{two}:{tmp_path / 'missing'}"}
    merged = load_merged(environ=environ)
    assert merged["current-context"] == "a"
    assert client_config(merged).server == "https://one"
    assert client_config(merged, "b").server == "https://b"
    assert default_path(environ) == one
    assert default_path({"KUBECONFIG": "/nowhere/x:/nowhere/y"}).name == "y"
    assert default_path({"HOME": "/h"}).as_posix() == "/h/.kube/config"


def test_files_beside_the_kubeconfig(tmp_path):
    (tmp_path / "ca.crt").write_bytes(b"CA")
    config = {
        "current-context": "x",
        "clusters": [
            {"name": "x", "cluster": {"server": "https://x/", "certificate-authority": "ca.crt"}}
        ],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        "users": [{"name": "x", "user": {"tokenFile": "token"}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(config))
    read = client_config(load_merged(str(path)))
    assert read.ca_data == b"CA" and read.server == "https://x"
    assert read.token_file == str(tmp_path / "token")


def test_missing_names_are_told():
    with pytest.raises(KubeconfigError, match="no current context"):
        client_config({})
    with pytest.raises(KubeconfigError, match="context 'x' does not exist"):
        client_config({}, "x")


def test_in_cluster(tmp_path):
    (tmp_path / "ca.crt").write_bytes(b"CA")
    (tmp_path / "namespace").write_text("ns\n")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    config = in_cluster_config(environ, tmp_path)
    assert (config.server, config.namespace) == ("https://[fd00::1]:443", "ns")
    with pytest.raises(KubeconfigError):
        in_cluster_config({}, tmp_path)
