"""Pods that a node can't take, though they were bound to it."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.testing import make_pod
from pilothouse.kubelet.admission import PodAdmission

NODE = {"status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "2", "example.com/x": "1"}}}


def pod(uid, port=None, host_ip=None, **requests):
    made = make_pod(uid, uid=uid, requests=requests or None)
    if port:
        ports = {"containerPort": 80, "hostPort": port, "hostIP": host_ip}
        made["spec"]["containers"][0]["ports"] = [ports]
    return made


def test_resources_run_out_and_come_back():
    admission = PodAdmission()
    assert admission.admit(pod("a", cpu="1500m"), NODE, running=False) is None
    assert admission.admit(pod("b", cpu="1"), NODE, running=False) == (
        "OutOfcpu",
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1500, "
        "capacity: 2000",
    )
    admission.release("a")
    assert admission.admit(pod("b", cpu="1"), NODE, running=False) is None


def test_number_of_pods():
    admission = PodAdmission()
    for uid in ("a", "b"):
        assert admission.admit(pod(uid), NODE, running=False) is None
    reason, message = admission.admit(pod("c"), NODE, running=False)
    assert reason == "OutOfpods"
    assert message.endswith("pods, requested: 1, used: 2, capacity: 2")
    assert admission.admit(pod("a"), NODE, running=False) is None


def test_resources_that_the_node_does_not_know():
    admission = PodAdmission()
    unknown = {"example.com/y": "5"}
    assert admission.admit(pod("a", **unknown), NODE, running=False) is None
    reason, _ = admission.admit(pod("b", **{"example.com/x": "2"}), NODE, running=False)
    assert reason == "OutOfexample.com/x"


@pytest.mark.parametrize(
    ("first", "second", "fits"),
    [
        ((80, None), (80, None), False),
        ((80, None), (81, None), True),
        ((80, "10.0.0.1"), (80, "10.0.0.2"), True),
        ((80, "10.0.0.1"), (80, None), False),
    ],
)
def test_host_ports(first, second, fits):
    admission = PodAdmission()
    assert admission.admit(pod("a", *first), NODE, running=False) is None
    rejection = admission.admit(pod("b", *second), NODE, running=False)
    assert (rejection is None) == fits
    if rejection is not None:
        assert rejection[0] == "NodePorts"


def test_what_runs_already_stays():
    admission = PodAdmission()
    assert admission.admit(pod("a", cpu="8"), NODE, running=True) is None


def test_resize_is_given_deferred_or_refused():
    admission = PodAdmission()
    small = pod("a", cpu="500m")
    assert admission.admit(small, NODE, running=False) is None
    assert admission.admit(pod("b", cpu="1"), NODE, running=False) is None
    wanted = pod("a", cpu="1500m")
    allowed, problem, changed = admission.resize(wanted, NODE)
    assert not changed
    assert allowed["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "500m"}
    assert problem == (
        "Deferred",
        "Node didn't have enough resource: cpu, requested: 1500, used: 1000, capacity: 2000",
    )
    assert admission.resize(pod("a", cpu="3"), NODE)[1] == (
        "Infeasible",
        "Node didn't have enough capacity: cpu, requested: 3000, capacity: 2000",
    )
    admission.release("b")
    assert admission.resize(wanted, NODE) == (wanted, None, True)
    assert admission.resize(small, NODE) == (small, None, True)
    assert admission.admit(pod("b", cpu="1500m"), NODE, running=False) is None


def test_a_kubelet_that_starts_anew_goes_by_what_was_given():
    admission = PodAdmission()
    grown = pod("a", cpu="1500m")
    name = grown["spec"]["containers"][0]["name"]
    given = {"requests": {"cpu": "500m"}}
    grown["status"] = {"containerStatuses": [{"name": name, "resources": given}]}
    assert admission.admit(grown, NODE, running=True) is None
    assert admission.admit(pod("b", cpu="1"), NODE, running=False) is None
    allowed, problem, _ = admission.resize(grown, NODE)
    assert problem is not None and problem[0] == "Deferred"
    assert allowed["spec"]["containers"][0]["resources"] == given
    admission.release("b")
    assert admission.resize(grown, NODE)[1:] == (None, True)
