import pytest

from flyatc.config import wrapper_env
from flyatc.config.errors import ConfigError
from flyatc.config.wrapper_env import WrapperSettings


def reported(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        wrapper_env.read(environ)
    return [str(fault) for fault in refused.value.faults]


def test_only_flyatcs_own_variable_names_the_address_to_listen_at() -> None:
    assert wrapper_env.read({"HOST": "example.com", "THRUSTER_HOST": "::1"}).host is None
    assert wrapper_env.read({"FLYATC_HOST": ""}).host is None
    assert wrapper_env.read({"FLYATC_HOST": "127.0.0.1"}).host == "127.0.0.1"


def test_the_defaults_are_thrusters() -> None:
    assert wrapper_env.read({}) == WrapperSettings(
        http_port=80,
        target_port=3000,
        http_idle_timeout=60,
        http_read_timeout=30,
        http_write_timeout=30,
        max_request_body=0,
        forward_headers=True,
        bad_gateway_page="./public/502.html",
        log_requests=True,
        debug=False,
        cache_size=67108864,
        max_cache_item_size=1048576,
        x_sendfile_enabled=True,
        compression_enabled=True,
        compression_disable_on_auth=False,
        compression_jitter=32,
    )


def test_every_variable_is_read() -> None:
    given = {
        "HTTP_PORT": "8080",
        "TARGET_PORT": "4000",
        "START_TIMEOUT": "5",
        "HTTP_IDLE_TIMEOUT": "1",
        "HTTP_READ_TIMEOUT": "2",
        "HTTP_WRITE_TIMEOUT": "3",
        "MAX_REQUEST_BODY": "10",
        "FORWARD_HEADERS": "false",
        "BAD_GATEWAY_PAGE": "/srv/502.html",
        "LOG_REQUESTS": "0",
        "DEBUG": "1",
        "CACHE_SIZE": "1000",
        "CACHE_MODE": "rfc",
        "MAX_CACHE_ITEM_SIZE": "100",
        "X_SENDFILE_ENABLED": "F",
        "GZIP_COMPRESSION_ENABLED": "FALSE",
        "GZIP_COMPRESSION_DISABLE_ON_AUTH": "T",
        "GZIP_COMPRESSION_JITTER": "64",
    }
    assert wrapper_env.read(given) == WrapperSettings(
        http_port=8080,
        target_port=4000,
        start_timeout=5,
        http_idle_timeout=1,
        http_read_timeout=2,
        http_write_timeout=3,
        max_request_body=10,
        forward_headers=False,
        bad_gateway_page="/srv/502.html",
        log_requests=False,
        debug=True,
        cache_size=1000,
        cache_mode="rfc",
        max_cache_item_size=100,
        x_sendfile_enabled=False,
        compression_enabled=False,
        compression_disable_on_auth=True,
        compression_jitter=64,
    )


def test_our_prefix_beats_thrusters_and_that_beats_none() -> None:
    bare, thruster, ours = {"TARGET_PORT": "1"}, {"THRUSTER_TARGET_PORT": "2"}, {"FLYATC_TARGET_PORT": "3"}
    assert wrapper_env.read(bare | thruster | ours).target_port == 3
    assert wrapper_env.read(bare | thruster).target_port == 2
    assert wrapper_env.read(bare).target_port == 1


def test_a_variable_set_to_nothing_is_the_default_and_hides_the_others() -> None:
    assert wrapper_env.read({"THRUSTER_TARGET_PORT": "", "TARGET_PORT": "4000"}).target_port == 3000
    assert wrapper_env.read({"THRUSTER_BAD_GATEWAY_PAGE": "", "BAD_GATEWAY_PAGE": "x"}).bad_gateway_page == ""


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("CACHE_SIZE", "64MB", "cache_size", 67108864),
        ("CACHE_MODE", " RFC ", "cache_mode", "rfc"),
        ("CACHE_MODE", "assets", "cache_mode", "assets"),
        ("MAX_REQUEST_BODY", "-1", "max_request_body", 0),
        ("MAX_REQUEST_BODY", "+7", "max_request_body", 7),
        ("HTTP_READ_TIMEOUT", "15m", "http_read_timeout", 900),
        ("HTTP_READ_TIMEOUT", "0", "http_read_timeout", 0),
        ("START_TIMEOUT", "500ms", "start_timeout", 0.5),
        ("GZIP_COMPRESSION_JITTER", "-5", "compression_jitter", 0),
        ("X_SENDFILE_ENABLED", "off", "x_sendfile_enabled", False),
        ("LOG_REQUESTS", "No", "log_requests", False),
        ("DEBUG", " Yes ", "debug", True),
        ("HTTP_PORT", "0", "http_port", 0),
    ],
)
def test_units_signs_and_words_are_understood(name: str, text: str, field: str, value: object) -> None:
    assert getattr(wrapper_env.read({name: text}), field) == value


def test_no_idle_timeout_falls_back_to_the_read_timeout() -> None:
    assert wrapper_env.read({"HTTP_IDLE_TIMEOUT": "0"}).idle_timeout == 30
    assert wrapper_env.read({"HTTP_IDLE_TIMEOUT": "0", "HTTP_READ_TIMEOUT": "0"}).idle_timeout == 0


def test_every_fault_is_reported_at_once_with_its_variable() -> None:
    faults = reported(
        THRUSTER_TARGET_PORT="http",
        HTTP_PORT="99999",
        CACHE_SIZE="lots",
        CACHE_MODE="all",
        HTTP_READ_TIMEOUT="1 week",
        FLYATC_LOG_REQUESTS="maybe",
        THRUSTER_GZIP_COMPRESSION_JITTER="65534",
        TLS_DOMAIN="example.com",
        H2C_ENABLED="1",
    )
    assert [fault.split(": ")[1] for fault in faults] == [
        "HTTP_PORT",
        "THRUSTER_TARGET_PORT",
        "HTTP_READ_TIMEOUT",
        "FLYATC_LOG_REQUESTS",
        "CACHE_SIZE",
        "CACHE_MODE",
        "THRUSTER_GZIP_COMPRESSION_JITTER",
        "TLS_DOMAIN",
        "H2C_ENABLED",
    ]
    assert all(fault.startswith("environment: ") for fault in faults)


def test_a_bare_name_that_may_be_the_apps_own_has_a_way_out() -> None:
    assert reported(DEBUG="express:*")[0].endswith("if it is meant for your app, set FLYATC_DEBUG, which comes first")
    assert wrapper_env.read({"DEBUG": "express:*", "FLYATC_DEBUG": "0"}).debug is False
    assert wrapper_env.read({"DEBUG": "express:*", "FLYATC_DEBUG": ""}).debug is False
    assert "meant for your app" not in reported(THRUSTER_DEBUG="express:*")[0]


def test_clients_and_the_app_need_a_port_each() -> None:
    assert reported(HTTP_PORT="3000") == [
        "environment: TARGET_PORT: 3000 is HTTP_PORT too: clients and the app need one each"
    ]
    assert reported(TARGET_PORT="0")[0].startswith("environment: TARGET_PORT: the app needs a known port")


@pytest.mark.parametrize("text", ["example.com", "a.example, b.example", ", x"])
def test_tls_is_refused_with_what_to_do_instead(text: str) -> None:
    (fault,) = reported(THRUSTER_TLS_DOMAIN=text)
    assert fault.startswith("environment: THRUSTER_TLS_DOMAIN: flyatc speaks no TLS")
    assert "kamal-proxy or Caddy" in fault


@pytest.mark.parametrize("environ", [{"TLS_DOMAIN": ""}, {"TLS_DOMAIN": " , "}, {"H2C_ENABLED": "0"}])
def test_what_is_switched_off_is_no_fault(environ: dict[str, str]) -> None:
    assert wrapper_env.read(environ) == WrapperSettings()


@pytest.mark.parametrize("text", ["1", "on", "maybe"])
def test_h2c_is_refused(text: str) -> None:
    assert reported(H2C_ENABLED=text)[0].startswith("environment: H2C_ENABLED: ")


def test_what_means_nothing_here_is_named() -> None:
    given = {
        "ACME_DIRECTORY": "https://acme.example",
        "THRUSTER_HTTPS_PORT": "443",
        "EAB_KID": "",
        "THRUSTER_TARGET_PROT": "4000",
        "THRUSTER_TARGET_PORT": "4000",
        "THRUSTER_TLS_DOMAIN": "",
        "HOME": "/root",
    }
    assert wrapper_env.read(given).ignored == ("ACME_DIRECTORY", "THRUSTER_HTTPS_PORT", "THRUSTER_TARGET_PROT")
