"""What other sites and other machines may ask the live page for: nothing."""

from http.cookies import SimpleCookie

import pytest

from bifocus.edge.live_guard import Guard, new_token

TOKEN = "correct-horse-battery"
HERE = {"Host": "127.0.0.1:8765"}


def guard(host: str = "127.0.0.1") -> Guard:
    return Guard(host=host, cookie="bifocus-8765", token=TOKEN)


def with_token(headers: dict[str, str]) -> dict[str, str]:
    return {**headers, "Cookie": f"theme=dark; bifocus-8765={TOKEN}"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8765", "localhost:9", "[::1]:8765", "127.0.0.1"]
)
def test_own_names_may_look(host: str) -> None:
    assert guard().check("GET", {"Host": host}) is None


@pytest.mark.parametrize(
    "host", ["evil.example:8765", "", "127.0.0.1.evil.example", "192.168.1.5:8765"]
)
def test_a_rebound_name_is_not_answered(host: str) -> None:
    """DNS rebinding: evil.example resolves to 127.0.0.1 for the victim's browser."""
    refusal = guard().check("GET", with_token({"Host": host}))
    assert refusal is not None
    assert refusal.status == 421


@pytest.mark.parametrize(
    "header",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:3000"},  # another server of this machine
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_other_sites_are_refused_even_with_the_cookie(
    header: dict[str, str], method: str
) -> None:
    refusal = guard().check(method, with_token({**HERE, **header}))
    assert refusal is not None
    assert refusal.status == 403


def test_a_link_from_elsewhere_opens_the_page_only() -> None:
    link = {**HERE, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert guard().check("GET", link) is None
    assert guard().check("POST", with_token(link)) is not None


def test_acting_needs_the_token() -> None:
    origin = {**HERE, "Origin": "http://127.0.0.1:8765"}
    refusal = guard().check("POST", origin)
    assert refusal is not None
    assert refusal.status == 401
    assert guard().check("POST", with_token(origin)) is None
    assert guard().check("POST", {**HERE, "Authorization": f"Bearer {TOKEN}"}) is None
    wrong = {**HERE, "Authorization": f"Bearer {TOKEN}x"}
    assert guard().check("POST", wrong) is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5"])
def test_elsewhere_looking_needs_the_token_too(host: str) -> None:
    request = {"Host": "192.168.1.5:8765"}
    refusal = guard(host).check("GET", request)
    assert refusal is not None
    assert refusal.status == 401
    assert guard(host).check("GET", with_token(request)) is None
    foreign = guard(host).check("GET", with_token({"Host": "evil.example"}))
    assert foreign is not None
    assert foreign.status == 421


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites() -> None:
    cookie = SimpleCookie(guard().compose_cookie())["bifocus-8765"]
    assert cookie.value == TOKEN
    assert cookie["httponly"]
    assert cookie["samesite"] == "Strict"


def test_broken_cookies_are_no_token() -> None:
    assert not guard().knows({"Cookie": "bifocus-8765\x00=;;=,"})
    assert not guard().knows({"Cookie": "bifocus-8765=ünlikely"})


def test_tokens_are_long_and_never_shown_by_accident() -> None:
    assert len({new_token() for _ in range(50)}) == 50
    assert len(new_token()) >= 22  # 128 bits in base64
    assert TOKEN not in repr(guard())
