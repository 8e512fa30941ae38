"""What `requests` does with a token when it is sent elsewhere: nothing of ours may go along."""

from __future__ import annotations

import pytest
import requests

from keyfob.integrations.requests import ServiceAuth


@pytest.fixture
def auth() -> ServiceAuth:
    return ServiceAuth(
        "https://auth.example", credentials=("billing", "kfc_x"), origins="http://orders.internal"
    )


def redirected(url: str, location: str) -> requests.Response:
    """Return a redirect as the adapter builds it, to a request that carried a token."""
    response = requests.Response()
    response.status_code = 302
    response.url = url
    response.headers["Location"] = location
    request = requests.Request("GET", url, headers={"Authorization": "Bearer secret"}).prepare()
    response.request = request
    return response


@pytest.mark.parametrize(
    "location",
    [
        "https://orders.internal/x",  # requests itself would keep the header here
        "http://orders.internal:8080/x",
        "http://evil.example/",
        "//evil.example/",
        "http://orders.internal@evil.example/",
    ],
)
def test_a_redirect_to_another_origin_loses_the_token(auth: ServiceAuth, location: str) -> None:
    response = redirected("http://orders.internal/a", location)
    assert auth._answered(response) is response
    assert "Authorization" not in response.request.headers


@pytest.mark.parametrize("location", ["/b", "b?c", "http://orders.internal/b", "http://ORDERS.internal:80/b"])
def test_a_redirect_within_the_origin_keeps_it(auth: ServiceAuth, location: str) -> None:
    response = redirected("http://orders.internal/a", location)
    auth._answered(response)
    assert response.request.headers["Authorization"] == "Bearer secret"
