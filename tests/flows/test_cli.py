"""The command line itself: help without imports, errors, options before and after the verb, reference pages."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest
from click.testing import CliRunner

import farthing
from farthing.cli import checkup, reference
from farthing.cli.verbs import VERBS, root
from farthing.compress.generative.job import GenerativeJob
from farthing.compress.job import Job
from farthing.config import Settings, load

REPOSITORY = Path(farthing.__file__).parents[2]
PAGES = REPOSITORY / "docs" / "reference"
HEAVY = ("asyncio", "http", "jinja2", "msgspec", "rich", "sqlite3", "ssl", "starlette", "tomllib", "uvloop")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY / "src"), **environ}
    command = [sys.executable, "-m", "farthing.cli", *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=clean, timeout=60)


@pytest.mark.parametrize("statement", ["import farthing", "from farthing.cli import main; main()"])
def test_help_and_the_package_import_nothing_heavy(statement):
    report = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    program = f"import sys; sys.argv[1:] = ['--help']\n{statement}\n{report}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "farthing" in loaded
    assert not loaded & set(HEAVY)


def test_help_lists_every_verb_and_each_verb_has_help():
    shown = CliRunner().invoke(root, ["--help"]).output
    for name, line in VERBS.items():
        assert f"  {name} " in shown
        assert line in " ".join(shown.split())
        assert CliRunner().invoke(root, [name, "--help"]).exit_code == 0


def test_version():
    done = run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"farthing {farthing.__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["cnfig"], 'error: there is no verb "cnfig"; did you mean "config"?', "hint: See `farthing --help`."),
        (["--nope"], "error: No such option", "hint: See `farthing --help`."),
        (["config", "show", "--nope"], "error: No such option", "hint: See `farthing config show --help`."),
        (["-c", "absent.toml", "config", "check"], "error: absent.toml cannot be read", "hint: Name a readable file"),
        (["config", "check", "-c", "absent.toml"], "error: absent.toml cannot be read", "hint: Name a readable file"),
    ],
)
def test_errors_go_to_stderr_with_a_hint_and_exit_2(words, message, hint):
    done = run(*words)
    first, second = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (2, "")
    assert first.startswith(message)
    assert second.startswith(hint)


def test_no_verb_at_all_shows_help_and_exits_2():
    done = run()
    assert done.returncode == 2
    assert "Usage: farthing" in done.stderr
    assert "error:" not in done.stderr


def test_a_reader_that_leaves_early_is_no_error():
    program = f"{sys.executable} -m farthing.cli config schema | true"
    done = subprocess.run(["sh", "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_config_show_prints_toml_that_loads_to_the_same_settings():
    Path("mine.toml").write_text('[upstreams.stub]\nkind = "stub"\nmodels = ["*"]\n')
    done = run("config", "show", "--config", "mine.toml", FARTHING__SERVER__PORT="9000")
    Path("shown.toml").write_text(done.stdout)
    assert load(Path("shown.toml"), {}).settings == load(Path("mine.toml"), {"FARTHING__SERVER__PORT": "9000"}).settings


def test_config_show_says_where_each_value_comes_from_and_never_a_secret():
    Path("farthing.toml").write_text(
        '[upstreams.a]\nkind = "stub"\napi_key = "env:HUSH"\n[keys.k]\nsecret = "env:ABSENT"\n'
    )
    done = run("config", "show", "--origin", HUSH="sk-hush", FARTHING__SERVER__PORT="9000")
    notes = {line.split(" = ")[0]: line.split("#")[1].strip() for line in done.stdout.splitlines() if "#" in line}
    assert notes["port"] == "FARTHING__SERVER__PORT"
    assert notes["host"] == "default"
    assert notes["api_key"] == "farthing.toml:3, resolves"
    assert notes["secret"] == "farthing.toml:5, missing"
    assert "sk-hush" not in done.stdout + done.stderr


def test_config_show_as_json_names_its_schema():
    shown = json.loads(run("config", "show", "--json", FARTHING__SERVER__PORT="9000").stdout)
    assert shown["schema"] == "farthing.config/1"
    assert shown["settings"]["server"]["port"] == 9000
    assert shown["origin"]["server.port"] == "FARTHING__SERVER__PORT"


def test_config_check_refuses_with_every_fault_and_accepts_what_is_sound():
    Path("farthing.toml").write_text("[server]\nprt = 1\n[cache]\nttl = 0\n")
    done = run("config", "check")
    assert done.returncode == 2
    assert 'farthing.toml:2: [server] has no key "prt"' in done.stderr
    assert "farthing.toml:4: cache.ttl is 0" in done.stderr
    Path("farthing.toml").write_text('[upstreams.a]\nkind = "stub"\n')
    done = run("config", "check")
    assert (done.returncode, done.stdout) == (0, "farthing.toml: sound (1 upstream, 0 routes, 0 keys)\n")


def test_the_schema_describes_every_table():
    schema = json.loads(run("config", "schema").stdout)
    assert set(schema["$defs"]["Settings"]["properties"]) == set(Settings.__struct_fields__)


def test_doctor_checks_every_library_that_is_required():
    needed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {line.split(">")[0] for line in needed} == set(checkup.LIBRARIES)


def test_the_configuration_reference_is_up_to_date():
    below = (PAGES / "configuration.md").read_text().partition(reference.MARK)[2]
    assert below.strip() == reference.configuration().strip(), "run: python -m farthing.cli.reference docs/reference"


def test_the_reference_of_compression_jobs_is_up_to_date():
    below = (PAGES / "compress-job.md").read_text().partition(reference.MARK)[2]
    assert below.strip() == reference.compress_job().strip(), "run: python -m farthing.cli.reference docs/reference"


@pytest.mark.parametrize("job", [Job, GenerativeJob])
def test_the_reference_of_compression_jobs_has_every_key(job):
    page = reference.compress_job()
    for record, key in keys(job):
        assert f"| `{key}` |" in page or f"{key}]" in page, f"{record.__name__}.{key} is missing"


def keys(kind: object) -> Iterator[tuple[type, str]]:
    for name in getattr(kind, "__struct_fields__", ()):
        yield kind, name
    inner = [field.type for field in msgspec.structs.fields(kind)] if hasattr(kind, "__struct_fields__") else []
    for below in (*inner, *get_args(kind)):
        yield from keys(below)


def test_the_command_line_reference_has_every_verb_and_option():
    page = (PAGES / "cli.md").read_text()
    for path, command in commands(root, "farthing"):
        section = page.partition(f"## `{path}`\n")[2].partition("\n## ")[0]
        assert section, f"{path} is missing; run: python -m farthing.cli.reference docs/reference"
        for option in (name for parameter in command.params for name in parameter.opts if name.startswith("-")):
            assert option in section, f"{path} {option} is missing"


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), f"{path} {name}")
