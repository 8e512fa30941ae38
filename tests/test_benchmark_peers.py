"""The other libraries are measured doing the whole of the work, and none is left out in silence."""

from __future__ import annotations

import pytest
from benchmarks.figures import Figure
from benchmarks.jwt_bench import Bench
from benchmarks.jwt_peers import PEERS, Peer, able, missing
from benchmarks.report import Run, as_markdown
from benchmarks.targets import ALGORITHMS

from keyfob.base import base64url
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm

CASES = [
    (Algorithm(name), peer) for name in ALGORITHMS for peer in PEERS if Algorithm(name) in peer.algorithms
]
IDS = [f"{peer.name}-{algorithm}" for algorithm, peer in CASES]


@pytest.fixture(scope="module")
def benches() -> dict[Algorithm, Bench]:
    return {Algorithm(name): Bench.of(Algorithm(name), tokens=1) for name in ALGORITHMS}


def require_installed(peer: Peer) -> None:
    if not peer.is_installed:
        pytest.skip(f"{peer.name} comes with make bench")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("algorithm", "peer"), CASES, ids=IDS)
def test_each_accepts_a_good_token_and_refuses_what_it_says_to_check(
    algorithm: Algorithm, peer: Peer, benches: dict[Algorithm, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    require_installed(peer)
    bench = benches[algorithm]
    token = bench.tokens[0]
    check = peer.checking(bench.peer_key)
    check(token)
    head, _, tail = token.rpartition(".")
    raw = bytearray(base64url.decode(tail.encode()))
    raw[-1] ^= 1
    with pytest.raises(Exception, match=r".*"):
        check(f"{head}.{base64url.encode(bytes(raw))}")
    for name in ("ISSUER", "AUDIENCE"):
        with monkeypatch.context() as patch:
            patch.setattr(f"benchmarks.jwt_peers.{name}", "https://another.example")
            with pytest.raises(Exception, match=r".*"):
                peer.checking(bench.peer_key)(token)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("algorithm", "peer"), CASES, ids=IDS)
def test_each_signs_what_we_accept(algorithm: Algorithm, peer: Peer, benches: dict[Algorithm, Bench]) -> None:
    require_installed(peer)
    bench = benches[algorithm]
    header = {"typ": "at+jwt", "kid": str(bench.key.key_id)}
    token = peer.signing(bench.peer_key, {"sub": "alice"}, header)()
    assert b"alice" in jws.verify(token, {bench.key.key_id: bench.key.public}, typ="at+jwt")


def test_a_library_that_is_not_installed_is_named_in_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.jwt_peers.find_spec", lambda module: None if module == "jose" else module)
    assert "python-jose is not installed" in missing(Algorithm.ES256)
    assert "python-jose has no EdDSA" in missing(Algorithm.EDDSA)
    assert "python-jose" not in {peer.name for peer in able(Algorithm.ES256)}
    figure = Figure(name="jwt.issue.ES256", measured=1.0, facts={"not_measured": missing(Algorithm.ES256)})
    page = as_markdown(Run(machine={}, figures=[figure, figure], is_measurement=True))
    assert page.count("python-jose is not installed") == 1
