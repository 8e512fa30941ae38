"""Settings: file, then environment, then flags; whatever is wrong refuses to start with one line."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.accounts.passwords import default_threads
from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Strategy
from keyfob.server import values
from keyfob.server.opening import open_authority
from keyfob.server.settings import SETTINGS, Settings
from keyfob.sessions.policy import AtLimit, SessionPolicy

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(toml: str | None = None, /, **variables: str) -> Settings:
    if toml is not None:
        Path("keyfob.toml").write_text(toml, "utf-8")
    return Settings.load(environ={f"KEYFOB_{name}": value for name, value in variables.items()})


def refused(toml: str | None = None, /, **variables: str) -> str:
    with pytest.raises(ConfigurationError) as refusal:
        load(toml, **variables)
    line = str(refusal.value)
    assert "\n" not in line
    return line


@pytest.mark.meets("OA-36")
def test_without_anything_the_defaults_of_the_contract_hold() -> None:
    settings = load()
    assert settings == Settings()
    assert (settings.host, settings.port, settings.workers) == ("127.0.0.1", 8080, 1)
    assert settings.store == "sqlite:///keyfob.db"
    assert settings.algorithm == "ES256"
    assert settings.access_lifetime == timedelta(minutes=10)
    assert settings.policy == SessionPolicy()
    assert settings.trusted_proxies == ()
    assert settings.master_key is None
    assert settings.issuer_at(8080) == "http://127.0.0.1:8080"


def test_a_file_sets_everything(tmp_path: Path) -> None:
    for name in ("chain.pem", "key.pem"):
        (tmp_path / name).write_text("-")
    settings = load(
        """
        issuer = "https://auth.example"
        store = "sqlite:////var/lib/keyfob.db"
        host = "0.0.0.0"
        port = 8443
        workers = 4
        algorithm = "EdDSA"
        access_lifetime = "5m"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        log_level = "warning"
        [tls]
        cert = "chain.pem"
        key = "key.pem"
        [refresh]
        replay_window = 300
        [sessions]
        per_subject = 10
        at_limit = "deny"
        touch_interval = "30s"
        max_cache_age = "1m"
        [sessions.session]
        idle = "15m"
        absolute = "8h"
        [sessions.hybrid]
        idle = "7d"
        absolute = "14d"
        [sessions.jwt]
        absolute = "5m"
        [feed]
        heartbeat = 0.5
        canary = "2s"
        [passwords]
        memory_kib = 65536
        iterations = 3
        threads = 2
        queue = 8
        """
    )
    assert settings.issuer == "https://auth.example"
    assert settings.trusted_proxies == ("10.0.0.0/8", "::1/128")
    assert settings.tls is not None
    assert settings.policy.replay_window == timedelta(seconds=300)
    assert settings.policy.sessions_per_subject == 10
    assert settings.policy.at_limit is AtLimit.DENY
    assert settings.policy.lifetimes[Strategy.SESSION].idle == timedelta(minutes=15)
    assert settings.policy.lifetimes[Strategy.HYBRID].absolute == timedelta(days=14)
    assert settings.policy.lifetimes[Strategy.JWT].absolute == timedelta(minutes=5)
    assert settings.heartbeat == timedelta(seconds=0.5)
    assert settings.canary == timedelta(seconds=2)
    assert settings.passwords.memory_kib == 65536
    assert settings.config == Path("keyfob.toml")


def test_the_environment_overrides_the_file_and_flags_override_both() -> None:
    assert load("port = 1\nworkers = 2", PORT="3").port == 3
    assert load("port = 1\nworkers = 2", PORT="3").workers == 2
    environ = {"KEYFOB_PORT": "3"}
    assert Settings.load(environ=environ, flags={"port": 4, "host": None}).port == 4


def test_every_setting_has_a_variable_of_its_own() -> None:
    variables = {"KEYFOB_" + name.upper().replace(".", "_") for name in SETTINGS}
    assert len(variables) == len(SETTINGS)
    assert "KEYFOB_REFRESH_REPLAY_WINDOW" in variables
    assert load(REFRESH_REPLAY_WINDOW="1").policy.replay_window == timedelta(seconds=1)
    assert load(TRUSTED_PROXIES="10.0.0.1, 192.168.0.0/16").trusted_proxies == (
        "10.0.0.1/32",
        "192.168.0.0/16",
    )


@pytest.mark.parametrize(
    ("toml", "nearest"),
    [
        ("prot = 1", "port"),
        ("isuer = 'https://a.example'", "issuer"),
        ("[refresh]\nreplay_windw = 3", "refresh.replay_window"),
        ("[sessions.hybird]\nidle = 3", "sessions.hybrid.idle"),
        ("[sesions]\nper_subject = 3", "sessions.per_subject"),
    ],
)
def test_an_unknown_setting_names_the_file_itself_and_the_nearest(toml: str, nearest: str) -> None:
    line = refused(toml)
    assert line.startswith("keyfob.toml: there is no setting ")
    assert line.endswith(f"the nearest is {nearest}") or nearest.partition(".")[0] in line


def test_an_unknown_variable_is_refused_too_since_it_may_be_a_secret_mistyped() -> None:
    line = refused(MASTERKEY=KEY)
    assert "KEYFOB_MASTERKEY" in line
    assert "KEYFOB_MASTER_KEY" in line
    assert KEY not in line


def test_what_others_set_is_left_alone() -> None:
    settings = load(
        SERVICE_HOST="10.0.0.1",
        SERVICE_PORT_HTTP="80",
        PORT="tcp://10.0.0.1:80",
        PORT_80_TCP_ADDR="10.0.0.1",
        CLIENT_ID="orders",
        CLIENT_SECRET="kfc_x",
    )
    assert settings == Settings()
    assert Settings.load(environ={"PATH": "/bin", "XKEYFOB_PORT": "1", "keyfob_port": "1"}) == Settings()


def test_the_new_master_key_of_a_rewrap_comes_from_the_environment_alone_too() -> None:
    assert load().new_master_key is None
    settings = load(NEW_MASTER_KEY=KEY)
    assert (settings.master_key, settings.new_master_key) == (None, bytes(range(32)))
    assert KEY not in repr(settings)
    assert "set KEYFOB_NEW_MASTER_KEY" in refused(f"new_master_key = '{KEY}'")


def test_the_master_key_comes_from_the_environment_alone_and_is_never_shown() -> None:
    settings = load(MASTER_KEY=KEY)
    assert settings.master_key == bytes(range(32))
    assert KEY not in repr(settings)
    assert repr(bytes(range(32))) not in repr(settings)
    line = refused(f"master_key = '{KEY}'")
    assert "KEYFOB_MASTER_KEY" in line
    assert KEY not in line
    Path("keyfob.toml").unlink()
    for wrong in ("", KEY[:-1], KEY + "A", KEY[:-1] + "!"):
        line = refused(MASTER_KEY=wrong)
        assert "KEYFOB_MASTER_KEY" in line
        assert not wrong or wrong not in line


def test_the_file_is_found_by_flag_by_variable_or_in_the_working_directory(tmp_path: Path) -> None:
    named, other = tmp_path / "named.toml", tmp_path / "other.toml"
    named.write_text("port = 1")
    other.write_text("port = 2")
    Path("keyfob.toml").write_text("port = 3")
    environ = {"KEYFOB_CONFIG": str(other)}
    assert Settings.load(environ={}).port == 3
    assert Settings.load(environ=environ).port == 2
    assert Settings.load(config=named, environ=environ).port == 1
    for missing in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match="no such settings file"):
            Settings.load(config=missing, environ={})


def test_a_file_that_is_not_toml_says_where() -> None:
    assert "line 2" in refused("port = 1\nport =\n")
    Path("keyfob.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not TOML"):
        Settings.load(environ={})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("PORT", ["0", "65535"], ["-1", "65536", "x", "", "1.5", "８０", "1_0", "+1", "9" * 30]),
        ("WORKERS", ["1"], ["0", "65", "many"]),
        ("ALGORITHM", ["ES256", "ES384", "EdDSA", "PS256", "RS256"], ["HS256", "none", "es256", ""]),
        (
            "ACCESS_LIFETIME",
            ["1", "1s", "10m", "15m", "24h", "1d", "86400"],
            ["0", "999ms", "86401", "25h", "2d", "-1", "10 m", "m", "1e3", "nan", "inf", "١٠"],
        ),
        ("REFRESH_REPLAY_WINDOW", ["0", "30", "300", "5m"], ["-1", "301", "300.001s", "6m"]),
        ("FEED_HEARTBEAT", ["0.1", "100ms", "5", "5s"], ["0.099", "99ms", "5.001", "6"]),
        ("FEED_CANARY", ["0", "0s", "1", "60s", "1m"], ["0.9", "999ms", "61", "-1", "off", ""]),
        ("SESSIONS_PER_SUBJECT", ["1", "100000"], ["0", "100001"]),
        ("SESSIONS_AT_LIMIT", ["deny", "end_oldest"], ["end", "DENY"]),
        ("SESSIONS_MAX_CACHE_AGE", ["1", "5m"], ["0", "301"]),
        ("SESSIONS_TOUCH_INTERVAL", ["1", "1h"], ["0.5", "3601"]),
        ("SESSIONS_JWT_ABSOLUTE", ["1", "24h"], ["0", "25h"]),
        ("SESSIONS_SESSION_ABSOLUTE", ["1m", "366d"], ["59s", "367d"]),
        ("PASSWORDS_MEMORY_KIB", ["19456"], ["19455", "8"]),
        ("PASSWORDS_ITERATIONS", ["2"], ["1"]),
        ("TRUSTED_PROXIES", ["10.0.0.0/8", "::1"], ["10.0.0.1/8", "proxy", "", "10.0.0.0/33"]),
        ("LOG_LEVEL", ["debug", "error"], ["verbose"]),
        ("HOST", ["127.0.0.1", "::1", "localhost"], ["", "a b", "-x", "a_b", "http://x", "x" * 300]),
        ("STORE", ["memory://"], ["", "a\nb"]),
        ("TLS_CERT", [], ["missing.pem", "."]),
    ],
)
def test_every_value_is_typed_and_bounded(name: str, good: list[str], bad: list[str]) -> None:
    for value in good:
        load(**{name: value})
    for value in bad:
        line = refused(**{name: value})
        assert line.startswith(f"environment: KEYFOB_{name}: "), line


@pytest.mark.parametrize(
    "toml",
    [
        "port = true",
        "port = '80'",
        "port = 80.0",
        "workers = [1]",
        "access_lifetime = true",
        "access_lifetime = nan",
        "store = 7",
        "trusted_proxies = 7",
        "issuer = 1979-05-27",
        "[port]\nx = 1",
        "refresh = 3",
        "tls = 'x'",
    ],
)
def test_values_of_the_wrong_kind_in_a_file_are_refused(toml: str) -> None:
    if toml == "port = '80'":
        assert load(toml).port == 80
        return
    assert refused(toml).startswith("keyfob.toml: ")


@pytest.mark.parametrize(
    "issuer",
    [
        "https://auth.example",
        "https://auth.example:8443",
        "https://auth.example/tenant",
        "http://localhost:8080",
        "http://127.0.0.1:1",
        "http://[::1]:8080",
        "http://keyfob.localhost",
        "http://127.9.9.9",
        "https://192.0.2.1",
    ],
)
def test_an_issuer_is_an_https_url_or_http_on_this_machine(issuer: str) -> None:
    assert load(ISSUER=issuer).issuer == issuer


@pytest.mark.meets("OA-01", "7009-R6/R7", "8414-2a")
@pytest.mark.parametrize(
    "issuer",
    [
        "",
        "auth.example",
        "ftp://auth.example",
        "https://",
        "https:///x",
        "https://auth.example/",
        "https://auth.example/x/",
        "https://auth.example?",
        "https://auth.example?x=1",
        "https://auth.example#",
        "https://auth.example#x",
        "https://user@auth.example",
        "https://user:pw@auth.example",
        "https://auth.example:0",
        "https://auth.example:99999",
        "https://auth.example:x",
        "https://auth..example",
        "https://AUTH.example",
        "HTTPS://auth.example",
        "https://auth example",
        "https://auth.example/a b",
        "https://äuth.example",
        "https://[::1",
        "http://auth.example",
        "http://10.0.0.1",
        "http://0.0.0.0:8080",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "https://" + "a" * 250 + ".example",
    ],
)
def test_an_issuer_that_is_no_url_or_not_safe_is_refused(issuer: str) -> None:
    assert refused(ISSUER=issuer).startswith("environment: KEYFOB_ISSUER: issuer ")


def test_a_server_for_others_needs_an_issuer() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "auth.example"):
        assert "--issuer" in refused(HOST=host)
        assert load(HOST=host, ISSUER="https://auth.example").issuer == "https://auth.example"


def test_the_issuer_that_is_not_set_is_where_it_listens(tmp_path: Path) -> None:
    assert load(HOST="::1").issuer_at(81) == "http://[::1]:81"
    assert load(HOST="localhost").issuer_at(81) == "http://localhost:81"
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("-")
    assert load(TLS_CERT="c.pem", TLS_KEY="k.pem").issuer_at(81) == "https://127.0.0.1:81"
    assert load(ISSUER="https://auth.example").issuer_at(81) == "https://auth.example"


def test_tls_needs_both_files(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("-")
    assert "tls.key" in refused(TLS_CERT="c.pem")
    assert "tls.cert" in refused(TLS_KEY="c.pem")


def test_an_idle_limit_beyond_the_absolute_one_is_refused_and_a_default_one_is_cut() -> None:
    assert "sessions.session.idle" in refused(SESSIONS_SESSION_IDLE="13h")
    lifetimes = load(SESSIONS_SESSION_ABSOLUTE="10m").policy.lifetimes[Strategy.SESSION]
    assert lifetimes.idle == lifetimes.absolute == timedelta(minutes=10)


def test_workers_share_the_threads_that_hash() -> None:
    assert load().passwords.threads == default_threads()
    assert load(WORKERS="64").passwords.threads == 1
    assert load(WORKERS="64", PASSWORDS_THREADS="3").passwords.threads == 3


def test_a_store_in_memory_cannot_be_shared_by_workers() -> None:
    assert load(STORE="memory://").workers == 1
    assert "memory://" in refused(STORE="memory://", WORKERS="2")


def test_flags_are_checked_like_everything_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^--tls-cert: tls.cert must be a file"):
        Settings.load(environ={}, flags={"tls.cert": tmp_path / "none.pem"})
    with pytest.raises(ConfigurationError, match="--issuer"):
        Settings.load(environ={}, flags={"issuer": "http://auth.example"})


@given(st.sampled_from(sorted(SETTINGS)), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_is_read_or_refused_with_our_error(name: str, value: str) -> None:
    variable = "KEYFOB_" + name.upper().replace(".", "_")
    try:
        Settings.load(environ={variable: value})
    except ConfigurationError as refusal:
        assert "\n" not in str(refusal)  # noqa: PT017


@given(st.integers(0, 10**9))
def test_a_duration_is_shown_as_it_can_be_read(milliseconds: int) -> None:
    length = timedelta(milliseconds=milliseconds)
    read = values.duration(timedelta(0), timedelta(days=10_000))
    assert read(values.shown(length)) == length


async def test_where_logout_tokens_may_go_reaches_the_authority(tmp_path: Path) -> None:
    authority_file = tmp_path / "ca.pem"
    authority_file.write_text("")
    environ = {
        "KEYFOB_STORE": "memory://",
        "KEYFOB_BACKCHANNEL_NETWORKS": "10.0.0.0/8, 127.0.0.0/8",
        "KEYFOB_BACKCHANNEL_CA": str(authority_file),
    }
    settings = Settings.load(environ=environ)
    async with open_authority(settings) as authority:
        policy = authority.backchannel.delivery._post._policy  # type: ignore[attr-defined]
    assert (policy.networks, policy.ca) == (("10.0.0.0/8", "127.0.0.0/8"), authority_file)
    with pytest.raises(ConfigurationError):
        Settings.load(environ={"KEYFOB_BACKCHANNEL_NETWORKS": "everywhere"})
