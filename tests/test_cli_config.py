from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from banhammer import cli
from banhammer.config import load
from banhammer.schema import json_schema
from banhammer.starter import starter_text
from example import DESIGN

LOCAL = DESIGN.replace("redis+cluster://10.0.0.5:7000", "memory://")


def run(*arguments: str, cwd: Path, code: str = "", **settings: Any) -> subprocess.CompletedProcess[str]:
    command = ["-c", code] if code else ["-m", "banhammer"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BANHAMMER_")}
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=30, **settings,
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(LOCAL)
    return path


def test_check_says_in_words_what_each_policy_and_route_does(file: Path) -> None:
    done = run("check", file.name, cwd=file.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "rules.toml: 2 policies, 3 routes; store memory://\n"
        "\n"
        "policy login_failed\n"
        "  0: 10 at once, then 1 every 6m, at most 20 in any 1h; the 11th at once bans for 1h, then 6h, then 1d; "
        "runs block_local\n"
        "  1: 100 at once, then 1 every 36s, at most 200 in any 1h; the 101st at once bans for 7d; "
        "runs report_central\n"
        "  a strike is forgotten 30d after its ban\n"
        "  counts hits in windows of 1m, 10m, 60m\n"
        "  when the store cannot be asked: every hit is denied\n"
        "\n"
        "policy api\n"
        "  0: 50 at once, then 1 every 100ms, at most 650 in any 1m; "
        "the 51st at once is denied until there is room again\n"
        "\n"
        "routes, in this order\n"
        "  0: POST /login*: asks login_failed before, a hit after a response of 401 or 403, by ip\n"
        "  1: /healthz, /static/*: no hit, and no route behind is asked\n"
        "  2: every path: a hit on api before the response, by ip/24/48\n"
    )


def test_check_prints_one_object_with_json(file: Path) -> None:
    done = run("check", file.name, "--json", cwd=file.parent)
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert list(found) == ["file", "backend", "mode", "policies", "routes", "warnings", "notes", "mistakes"]
    assert list(found["policies"]) == ["login_failed", "api"]
    assert found["mistakes"] == []


def test_check_prints_every_mistake_and_exits_1(file: Path) -> None:
    file.write_text('mode = "of"\nallow = 5\n')
    expected = [
        "rules.toml:1: mode: 'of'; write 'enforce' or 'shadow'",
        "rules.toml:2: allow: 5; write a list of keys and networks, like ['10.0.0.0/8']",
    ]
    done = run("check", file.name, cwd=file.parent)
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (1, "", expected)
    done = run("check", file.name, "--json", cwd=file.parent)
    assert (done.returncode, json.loads(done.stdout)) == (1, {"mistakes": expected})


def test_check_prints_warnings_and_exits_0(file: Path) -> None:
    file.write_text(
        'mode = "shadow"\n[policies.p]\nthresholds = [{limit=1,period=1},{limit=2,period=1}]\nmode="enforce"'
    )
    done = run("check", file.name, cwd=file.parent)
    assert done.returncode == 0
    assert "rules.toml: 1 policy, 0 routes; store memory://; shadow: nobody is kept out\n" in done.stdout
    assert "  enforced, whatever the mode of the file\n" in done.stdout
    assert "\nwarning: policies.p.thresholds.1: can never trip" in done.stdout


CUT_LOGINS = (
    "redis://:12/sesame@h:6379/0", "rediss://u:123/sesame@h", "redis://u:1#sesame@h", "redis://:1?sesame=1@h",
    "redis://:1?partitions=sesame@h", "redis+unix://:a/sesame@/run/r.sock", "redis+sentinel://:1/sesame@h/mymaster",
    "redis://u:p@ss/sesame@h:6379/0", "redis://u:p@ss?sesame=1@h", "redis://u:p@ss?partitions=sesame@h", "redis://:1?sesame",
    "redis+sentinel://u:p@ss/sesame@h:1/mymaster",
)  # fmt: skip
"""Of passwords with a sign that ends the login, so that the rest of them reads as something else."""


def test_no_command_prints_the_secret_of_a_url(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(file.parent)
    for url, shown in (
        ("memory://u:sesame@h", "memory://u:***@h"),
        ("redsi://u:sesame@h", "redsi://u:***@h"),
        ("redis://u:sesame@h", "redis://"),
        ("memcached://u:sesame@h", "memcached:// takes no user and no password"),
        ("memory://?password=sesame", "'password'"),
        ("memory://u:sesame@h\u2100.com", "the URL cannot be read"),
        ("redsi://h?password=ab'sesame", "redsi://h?***"),
        ("sesame", "'***' is not a URL"),
        *[(url, "the URL cannot be read; write the signs / # ? @ of a password as") for url in CUT_LOGINS],
    ):
        file.write_text(f'backend = "{url}"\n')
        for options in ([], ["--json"]):
            monkeypatch.setattr(sys, "argv", ["banhammer", "check", file.name, *options])
            with pytest.raises(SystemExit):
                cli.main()
            said = "".join(capsys.readouterr())
            assert "sesame" not in said
            assert shown in said


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("memcached://", "backend: memcached:// names no host; write memcached://host:11211"),
        ("memcached://h?local_shar=2", "backend: unknown setting 'local_shar'; did you mean 'local_share'?"),
        ("redis://h?patitions=2", "backend: 'patitions' is no setting of a connection"),
        (
            "redis://h?ssl_ca_certs=a.pem",
            "backend: 'ssl_ca_certs' is no setting of a connection; write rediss:// for TLS",
        ),
        ("rediss://h?ssl_ca_certs=a.pem", "backend: ssl_ca_certs='a.pem' is no file that can be read"),
        ("rediss://h?ssl_cert_reqs=typo", "backend: Invalid SSL Certificate Requirements Flag: typo"),
        ("rediss://h?ssl_ca_path=cli.py", "backend: ssl_ca_path='cli.py' is no directory that can be read"),
        ("redis://h/abc", "backend: database 'abc'; write its number, as in redis://host/0"),
        ("redis://h/-1", "backend: database '-1'; write its number"),
        ("redis://h:99999", "backend: a host is no host:port with a port up to 65535; write host:6379"),
        ("redis://u:p#x@h", "backend: the URL cannot be read; write the signs / # ? @ of a password as %2F %23"),
        ("redis://h?partitions=0", "backend: partitions=0; write a whole number from 1 to 1,024"),
        ("redis+sentinel://h", "backend: redis+sentinel:// names no service"),
        ("redis+cluster://h/1", "backend: database 1: a cluster has database 0 only; leave it out"),
        ("redis+cluster://h?db=2", "backend: database 2: a cluster has database 0 only; leave it out"),
        ("memory://?max_keys=abc", "backend: max_keys=abc; "),
        ("memory://?max_key=5", "backend: unknown setting 'max_key'; did you mean 'max_keys'?"),
    ],
)
def test_check_refuses_a_backend_that_cannot_be_opened(file: Path, url: str, mistake: str) -> None:
    file.write_text(f'mode = "of"\nbackend = "{url}"\n')
    done = run("check", file.name, cwd=file.parent)
    assert done.returncode == 1
    wrong_mode, wrong_backend = done.stderr.splitlines()
    assert wrong_mode.startswith("rules.toml:1: mode: ")
    assert wrong_backend.startswith(f"rules.toml:2: {mistake}")


def test_init_writes_rules_that_check_passes_and_never_overwrites_unasked(tmp_path: Path) -> None:
    assert run("init", cwd=tmp_path).returncode == 0
    assert (tmp_path / "banhammer.toml").read_text() == starter_text()
    assert run("check", cwd=tmp_path).returncode == 0
    (tmp_path / "banhammer.toml").write_text("mine")
    done = run("init", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "banhammer.toml: stands already; name another, or replace it with --force\n",
    )
    assert (tmp_path / "banhammer.toml").read_text() == "mine"
    done = run("init", "banhammer.toml", "--force", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {"wrote": "banhammer.toml"}
    assert (tmp_path / "banhammer.toml").read_text() == starter_text()


def test_init_where_nothing_can_be_written_is_a_mistake(tmp_path: Path) -> None:
    for path, force in (("none/rules.toml", []), (".", ["--force"])):
        done = run("init", path, *force, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{path}: ")
        assert done.stderr.count("\n") == 1


def test_the_version_is_that_of_the_distribution(tmp_path: Path) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run("--version", cwd=tmp_path).stdout)


def test_a_misuse_exits_2_with_the_nearest_command(tmp_path: Path) -> None:
    done = run("chck", cwd=tmp_path)
    assert done.returncode == 2
    assert "check" in done.stderr


def test_a_missing_package_is_one_clear_line(tmp_path: Path) -> None:
    for missing in ("typer", "pydantic", "rich"):
        code = f"import sys; sys.modules[{missing!r}] = None\nfrom banhammer.cli import main\nmain()"
        done = run("check", cwd=tmp_path, code=code)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert 'pip install "banhammer-limiter[cli]"' in done.stderr


def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "banhammer", "schema"],
            stdout=writer, stderr=subprocess.PIPE, cwd=tmp_path, timeout=30,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.stderr == b""


def test_output_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "banhammer", "schema"],
            stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, timeout=30,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == b"banhammer: standard output: no space left on device; make room\n"


@pytest.mark.parametrize("arguments", [["schema"], ["check", "rules.toml"], ["check", "nope.toml"], ["replay", "l"]])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_error(file: Path, arguments: list[str], closed: str) -> None:
    (file.parent / "l").write_text("")
    command = f'exec "$@" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, "sh", sys.executable, "-m", "banhammer", *arguments],
        cwd=file.parent, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == int("nope.toml" in arguments)
    assert "Traceback" not in done.stderr
    assert bool(done.stderr) == (done.returncode == 1 and closed == ">&-")
    assert bool(done.stdout) == (done.returncode == 0 and closed == "2>&-")


def test_an_interrupt_exits_130_without_a_traceback(tmp_path: Path) -> None:
    code = (
        "import banhammer.config\n"
        "def load(*_, **__): raise KeyboardInterrupt\n"
        "banhammer.config.load = load\n"
        "from banhammer.cli import main\nmain()"
    )
    done = run("check", cwd=tmp_path, code=code)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


# The schema


def _fits(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    """Tell whether the value fits, for the keywords that our schema uses; another keyword fails the test."""
    if "$ref" in schema:
        return _fits(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root)
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
    checks = {
        "type": lambda kind: isinstance(value, kinds[kind]) and (kind == "boolean" or not isinstance(value, bool)),
        "anyOf": lambda forms: any(_fits(form, value, root) for form in forms),
        "enum": lambda values: value in values,
        "pattern": lambda pattern: not isinstance(value, str) or bool(re.search(pattern, value)),
        "minimum": lambda least: value >= least,
        "maximum": lambda most: value <= most,
        "exclusiveMinimum": lambda least: value > least,
        "maxItems": lambda most: not isinstance(value, list) or len(value) <= most,
        "minItems": lambda least: not isinstance(value, list) or len(value) >= least,
        "items": lambda form: not isinstance(value, list) or all(_fits(form, item, root) for item in value),
        "required": lambda names: set(names) <= set(value),
        "properties": lambda forms: all(_fits(forms[name], value[name], root) for name in set(forms) & set(value)),
        "additionalProperties": lambda form: (
            set(value) <= set(schema["properties"])
            if form is False
            else all(_fits(form, inner, root) for inner in value.values())
        ),
    }
    if "type" in schema and not checks["type"](schema["type"]):
        return False
    silent = {"title", "description", "default", "$schema", "$defs"}
    return all(checks[word](wanted) for word, wanted in schema.items() if word not in silent)


def test_the_schema_is_printed_as_json(tmp_path: Path) -> None:
    done = run("schema", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, json_schema())


@pytest.mark.parametrize("text", [starter_text(), DESIGN, "", "deadline = 0.05\ndenial_cache = true"])
def test_the_schema_takes_what_the_configuration_takes(text: str) -> None:
    settings = tomllib.loads(text)
    load(settings)
    assert _fits(json_schema(), settings, json_schema())


@pytest.mark.parametrize(
    "text",
    [
        "alow = []",
        'mode = "of"',
        "denial_cache = 1",
        'allow = "a"',
        "policies = 1",
        "[policies.a]",
        "[policies.a]\nthresholds = []",
        "[policies.a]\nthresholds = [{limit = 1}]",
        "[policies.a]\nthresholds = [{limit = 0, period = 1}]",
        "[policies.a]\nthresholds = [{limit = true, period = 1}]",
        '[policies.a]\nthresholds = [{limit = 1, period = "1x"}]',
        "[policies.a]\nthresholds = [{limit = 1, period = 1, ban = []}]",
        "[policies.a]\nthresholds = [{limit = 1, period = 1, burst = -1}]",
        '[policies.a]\non_error = "x"\nthresholds = [{limit = 1, period = 1}]',
        "[[routes]]\nexcluded = 'x'",
        "[[routes]]\nstatus = 700",
        "[[routes]]\ncost = 0",
        "[[routes]]\nskip = 1",
    ],
)
def test_the_schema_refuses_what_the_configuration_refuses(text: str) -> None:
    assert not _fits(json_schema(), tomllib.loads(text), json_schema())
