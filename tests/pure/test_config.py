"""The configuration: precedence, origins, messages, agreement, secrets, and writing it back."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.config import Override, Settings, Upstream, load, resolve_secret
from farthing.config.document import dotted, read_document
from farthing.config.rendering import as_toml
from farthing.config.secrets import references
from farthing.config.shape import values
from farthing.errors import ConfigError

STUB = '[upstreams.stub]\nkind = "stub"\n'


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write farthing.toml into an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "farthing.toml") -> Path:
        Path(name).write_text(text, encoding="utf-8")
        return Path(name)

    return write


def refusal(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(Path("farthing.toml") if text else None, environ or {})
    return caught.value.message.splitlines()


def test_with_nothing_given_every_value_is_the_default(written):
    loaded = load(None, {})
    assert loaded.settings == Settings()
    assert loaded.file is None
    assert set(loaded.origin.values()) == {"default"}


def test_a_flag_beats_a_variable_which_beats_the_file(written):
    written("[server]\nport = 1\nmax_body = 10\nmax_header = 20\n")
    environ = {"FARTHING__SERVER__PORT": "2", "FARTHING__SERVER__MAX_BODY": "11"}
    loaded = load(None, environ, [Override("server.port", "3", "--port")])
    assert (loaded.settings.server.port, loaded.origin["server.port"]) == (3, "--port")
    assert (loaded.settings.server.max_body, loaded.origin["server.max_body"]) == (11, "FARTHING__SERVER__MAX_BODY")
    assert (loaded.settings.server.max_header, loaded.origin["server.max_header"]) == (20, "farthing.toml:4")
    assert loaded.origin["server.host"] == "default"


def test_the_file_is_the_one_named_then_the_variable_then_the_one_at_hand(written):
    written("[server]\nport = 1\n")
    named = written("[server]\nport = 2\n", "named.toml")
    written("[server]\nport = 3\n", "variable.toml")
    environ = {"FARTHING_CONFIG": "variable.toml"}
    assert load(named, environ).settings.server.port == 2
    assert load(None, environ).settings.server.port == 3
    assert load(None, {}).settings.server.port == 1


@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_was_named_must_be_there(written, named):
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read: No such file"):
        load(Path("absent.toml") if named else None, {} if named else {"FARTHING_CONFIG": "absent.toml"})


def test_a_file_that_is_not_text_is_refused(written):
    Path("farthing.toml").write_bytes(b"[server]\nhost = '\xff'\n")
    with pytest.raises(ConfigError, match="not UTF-8 text"):
        load(None, {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cache]\ntll = 5", 'farthing.toml:2: [cache] has no key "tll"; did you mean "ttl"?'),
        ("\n[chache]\n", 'farthing.toml:2: there is no section "chache"; did you mean "cache"?'),
        ("port = 1", 'farthing.toml:1: there is no section "port"; it may be budgets, cache, fallback, key_store, keys'),
        ('[server]\nport = "80"', 'farthing.toml:2: server.port is "80"; expected a port from 0 to 65535'),
        ("[server]\nport = 65536", "farthing.toml:2: server.port is 65536; expected a port"),
        ("[server]\nport = 1.5", "farthing.toml:2: server.port is 1.5; expected a port"),
        ("[server]\nport = true", "farthing.toml:2: server.port is true; expected a port"),
        ("[server]\nidle_timeout = 0", "idle_timeout is 0; expected a positive number of seconds"),
        ("[server]\nidle_timeout = -1", "idle_timeout is -1; expected a positive number of seconds"),
        ("[server]\nidle_timeout = inf", "idle_timeout is inf; expected a positive number of seconds"),
        ("[server]\nidle_timeout = nan", "idle_timeout is nan; expected a positive number of seconds"),
        ("[server]\nidle_timeout = 2026-01-01", 'idle_timeout is "2026-01-01"; expected a positive number'),
        ("[server]\nallowed_hosts = 'a'", 'allowed_hosts is "a"; expected a list of text'),
        ("[server]\nallowed_hosts = [1]", "allowed_hosts is [1]; expected a list of text"),
        ("[ledger]\nbodies = 'yes'", 'ledger.bodies is "yes"; expected true or false'),
        ("[ledger]\nretention_days = 0", "retention_days is 0; expected a whole number of days from 1"),
        ("[ledger]\nsync = 'alway'", 'expected one of "interval", "always"; did you mean "always"?'),
        ("server = 5", "farthing.toml:1: server must be a table, [server]"),
        ("routes = 5", "farthing.toml:1: routes must be a list of tables, each under [[routes]]"),
        ("upstreams = 5", "farthing.toml:1: upstreams must be tables such as [upstreams.NAME]"),
        ("[upstreams]\nx = 5", "farthing.toml:2: upstreams.x must be a table, [upstreams.x]"),
        ("\n[keys.app]\ntenant = 'a'", 'farthing.toml:2: keys.app has no "secret", which it needs: a reference'),
        ("[[routes]]\nmodel = '*'", 'farthing.toml:1: routes[0] has no "upstream", which it needs: text'),
        (STUB + "[[routes]]\nmodel='*'\nupstream='stub'\n[[routes]]\nmodel='*'\nupstream='stub'\ncash=true", 'farthing.toml:9: routes[1] has no key "cash"; did you mean "cache"?'),
        (STUB + "hourly_usd = 3.0", 'hourly_usd is 3.0; expected dollars as text, such as "2.49"'),
        (STUB + "hourly_usd = '3 dollars'", 'hourly_usd is "3 dollars"; expected dollars as text'),
        (STUB + "hourly_usd = '-1'", 'hourly_usd is "-1"; expected dollars as text'),
        (STUB + "[[routes]]\nmodel = '*'\nupstream = 'stab'", 'farthing.toml:5: routes[0] goes to the upstream "stab", which is not configured; did you mean "stub"?'),
        ("[upstreams.a]\n", 'farthing.toml:1: [upstreams.a] needs provider = "NAME" or base_url = "https://..."'),
        ("[upstreams.a]\nprovider = 'opnai'", 'farthing.toml:2: [upstreams.a] has provider "opnai", which is not in the provider table; did you mean "openai"?'),
        ("[upstreams.a]\nprovider = 'azure'", 'farthing.toml:1: [upstreams.a] needs base_url = "https://...": azure has a different one'),
        ("[upstreams.a]\nbase_url = 'ftp://x'", "farthing.toml:2: [upstreams.a] has a base_url that is not http:// or https://"),
        ("[upstreams.a]\nbase_url = 'https://me:word@x'", "and nothing else"),
        ("[upstreams.a]\nbase_url = 'https://x/?v=1'", "and nothing else"),
        ('[upstreams.a]\nbase_url = "https://x/\\r\\nq: 1"', "and nothing else"),
        ("[upstreams.a]\nbase_url = 'https://x:99999'", "not http:// or https:// with a host"),
        ("[upstreams.a]\nkind = 'recorded'", '[upstreams.a] is recorded, so it needs recording = "FILE"'),
        ("[upstreams.'a.b']\nkind = 'stub'", "farthing.toml:1: upstreams has the name 'a.b'; use letters, digits, - and _"),
        ("\n[server]\nhost = '0.0.0.0'", 'farthing.toml:3: server.host is "0.0.0.0", which lets other machines in; that needs a key'),
        ("[server]\nhost = '::'", "lets other machines in"),
        ("[server]\nhost = 'example.com'", "lets other machines in"),
        ("[keys.a]\nsecret = 'env:S'\n[keys.b]\nsecret = 'env:S'", "farthing.toml:4: [keys.b] has the same secret as [keys.a]"),
        ("[keys.a]\nsecret = ''", "farthing.toml:2: [keys.a] has an empty secret"),
        ("[server]\nport = 1\nport = 2\n", "farthing.toml:3: this is not TOML: "),
        ("[server]\n\nport =\n[cache]\n", "farthing.toml:3: this is not TOML: "),
        ("[server]\nallowed_hosts = [\n'a',\n", "farthing.toml:2: this is not TOML: "),
        ("[server", "farthing.toml:1: this is not TOML: "),
    ],
)  # fmt: skip
def test_a_fault_names_file_line_key_and_what_was_expected(written, text, message):
    written(text)
    lines = refusal(text)
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("FARTHING__SERVER__PRT", "1", '[server] has no key "prt"; did you mean "port"?'),
        ("FARTHING__SEVER__PORT", "1", 'there is no section "sever"; did you mean "server"?'),
        ("FARTHING__SERVER__PORT", "eighty", 'server.port is "eighty"; expected a port'),
        ("FARTHING__SERVER__PORT", "", 'server.port is ""; expected a port'),
        ("FARTHING__SERVER__PORT__X", "1", "server.port is not a table"),
        ("FARTHING__SERVER", "1", "server is not a single value; set it in the file"),
        ("FARTHING__ROUTES", "*", "routes is not a single value; set it in the file"),
        ("FARTHING__KEYS", "sk-abc", "keys is not a single value; set it in the file"),
        ("FARTHING__LEDGER__BODIES", "perhaps", 'ledger.bodies is "perhaps"; expected true or false'),
        ("FARTHING__CACHE__SCOPE", "team", 'cache.scope is "team"; expected one of'),
        ("FARTHING__UPSTREAMS__A__CONNECTIONS", "0", "upstreams.a.connections is 0; expected a whole number from 1"),
    ],
)
def test_a_fault_in_a_variable_names_the_variable(written, variable, text, message):
    lines = refusal("", {variable: text})
    assert len(lines) == 1
    assert lines[0].startswith(f"{variable}: ")
    assert message in lines[0]


def test_every_fault_is_reported_at_once(written):
    written("[server]\nport = 0.5\nhst = 1\n[cache]\nttl = 'long'\n")
    assert [line.split(": ")[0] for line in refusal("x")] == ["farthing.toml:2", "farthing.toml:3", "farthing.toml:5"]


def test_variables_of_others_are_left_alone(written):
    environ = {"FARTHING_SERVER_PORT": "1", "farthing__server__port": "2", "XFARTHING__SERVER__PORT": "3"}
    assert load(None, environ).settings == Settings()


def test_a_variable_reaches_a_name_in_the_file_that_variables_cannot_spell(written):
    written('[upstreams.My-vLLM]\nkind = "stub"\n')
    loaded = load(None, {"FARTHING__UPSTREAMS__MY_VLLM__CONNECTIONS": "3"})
    assert set(loaded.settings.upstreams) == {"My-vLLM"}
    assert loaded.settings.upstreams["My-vLLM"].connections == 3


def test_variables_alone_can_add_an_upstream(written):
    environ = {"FARTHING__UPSTREAMS__MINE__KIND": "stub", "FARTHING__UPSTREAMS__MINE__MODELS": "a, b"}
    assert load(None, environ).settings.upstreams == {"mine": Upstream(kind="stub", models=("a", "b"))}


SCALARS = [
    (path, value)
    for path, _, value in values(Settings())
    if not isinstance(value, tuple) and path != ("server", "host")
]
OTHER = {
    "ledger.sync": "always",
    "cache.scope": "all",
    "cache.max_temperature": 0.7,
    "server.admin_token": "env:ADMIN",
    "fallback.max_usd": "2",
    "key_store.pepper": "env:PEPPER",
    "shared.postgres": "env:POSTGRES",
    "shared.redis": "env:REDIS",
}


def another(path: str, value: object) -> object:
    if path in OTHER:
        return OTHER[path]
    if isinstance(value, bool):
        return not value
    return value + 1 if isinstance(value, int | float) else f"{value}-x"


@pytest.mark.parametrize(
    ("path", "value"), SCALARS, ids=lambda value: dotted(value) if isinstance(value, tuple) else ""
)
def test_a_variable_gives_what_the_file_would(written, path, value):
    new = another(dotted(path), value)
    in_toml = msgspec.json.encode(new).decode()
    file = written(f"[{path[0]}]\n{path[1]} = {in_toml}\n")
    text = str(new).lower() if isinstance(new, bool) else str(new)
    from_environ = load(written("", "empty.toml"), {f"FARTHING__{'__'.join(path).upper()}": text})
    assert from_environ.settings == load(file, {}).settings != Settings()
    assert from_environ.origin[dotted(path)].startswith("FARTHING__")


@given(port=st.integers(-10, 70_000), ttl=st.floats(), hosts=st.lists(st.sampled_from(["a", "b.c", "[::1]"])))
def test_a_variable_is_accepted_exactly_when_the_file_is(tmp_path_factory, port, ttl, hosts):
    file = tmp_path_factory.getbasetemp() / "generated.toml"
    file.write_text(f"server = {{port = {port}, allowed_hosts = {hosts!r}}}\ncache.ttl = {ttl!r}\n")
    environ = {
        "FARTHING__SERVER__PORT": str(port),
        "FARTHING__SERVER__ALLOWED_HOSTS": ",".join(hosts),
        "FARTHING__CACHE__TTL": repr(ttl),
    }

    def outcome(path: Path | None, environ: dict[str, str]) -> Settings | list[str]:
        try:
            return load(path, environ).settings
        except ConfigError as error:
            return sorted(line.split(": ", 1)[1] for line in error.message.splitlines())

    assert outcome(file, {}) == outcome(Path("/dev/null"), environ)


@pytest.mark.parametrize(
    "text",
    [
        '[upstreams.a]\nkind = "stub"\napi_key = "sk-hush"',
        '[keys]\napp = "sk-hush"',
        '[keys.app]\nsecret = "sk-hush"',
        '[keys.app]\nsecrt = "sk-hush"',
        '[keys.app]\nsecret = ["sk-hush"]',
        '[keys.app]\nsecret = "env:sk-hush"',
        'keys = "sk-hush"',
        '[upstreams.a]\nbase_url = "https://sk-hush@host"',
        '[upstreams.a]\napi_key = "sk-hush',
    ],
)
def test_a_secret_given_by_itself_is_refused_and_never_repeated(written, text):
    written(text)
    assert "hush" not in "\n".join(refusal(text))


def test_a_secret_in_a_variable_is_refused_and_never_repeated(written):
    (line,) = refusal("", {"FARTHING__UPSTREAMS__A__API_KEY": "sk-hush", "FARTHING__UPSTREAMS__A__KIND": "stub"})
    assert 'write "env:NAME"' in line
    assert "hush" not in line


def test_secrets_resolve_from_variables_and_files(tmp_path):
    (tmp_path / "key").write_text("sk-file\n")
    assert resolve_secret("env:KEY", {"KEY": " sk-env "}) == "sk-env"
    assert resolve_secret(f"file:{tmp_path}/key", {}) == "sk-file"
    assert resolve_secret("", {}) == ""


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("env:KEY", "env:KEY is missing or empty"),
        ("env:BLANK", "env:BLANK is missing or empty"),
        ("env:SPLIT", "env:SPLIT holds white space or characters that no header can carry"),
        ("env:ACCENT", "no header can carry"),
        ("file:/absent", "file:/absent cannot be read: No such file or directory"),
        ("file:/", "file:/ cannot be read: Is a directory"),
        ("sk-hush", "a secret is given by itself"),
    ],
)
def test_a_secret_that_cannot_be_used_says_why_without_showing_it(reference, message):
    environ = {"BLANK": " ", "SPLIT": "hush\r\nx: 1", "ACCENT": "hush\u00e9"}
    with pytest.raises(ConfigError) as caught:
        resolve_secret(reference, environ)
    assert message in caught.value.message
    assert "hush" not in str(caught.value)


def test_references_are_found_wherever_they_stand(written):
    written('[upstreams.a]\nkind = "stub"\napi_key = "env:A"\n[keys.k]\nsecret = "file:/k"\n')
    assert dict(references(load(None, {}).settings)) == {"upstreams.a.api_key": "env:A", "keys.k.secret": "file:/k"}


def test_a_host_of_this_machine_needs_no_key_and_others_do_with_one(written):
    for host in ("127.0.0.2", "localhost", "::1", "[::1]"):
        assert load(None, {"FARTHING__SERVER__HOST": host}).settings.server.host == host
    key = {"FARTHING__KEYS__APP__SECRET": "env:APP", "FARTHING__SERVER__ADMIN_TOKEN": "env:ADMIN"}
    assert load(None, {"FARTHING__SERVER__HOST": "0.0.0.0", **key}).settings.server.host == "0.0.0.0"


def test_lines_are_found_in_every_way_toml_can_say_a_thing(written):
    written(
        '# a comment\n\nserver.port = 1 # with = signs\nledger = { path = "a # b", bodies = true }\r\n'
        'upstreams.a.kind = "stub"\nupstreams.a.models = [ # one\n  "[cache]",\n  "ttl = 1"\n]\n'
        "  [ \"cache\" ]\n  ttl = 5\n[prices]\noverrides = '''\n[server]\nhost = 1\n'''\n"
        '[[routes]]\nmodel = "x"\nupstream = "a"\n[[ routes ]]\nupstream = "a"\nmodel = "y"\n'
    )
    origin = load(None, {}).origin
    given = {name: int(where.split(":")[1]) for name, where in origin.items() if where != "default"}
    assert given == {
        "server.port": 3,
        "ledger.path": 4,
        "ledger.bodies": 4,
        "upstreams.a.kind": 5,
        "upstreams.a.models": 6,
        "cache.ttl": 11,
        "prices.overrides": 13,
        "routes[0].model": 18,
        "routes[0].upstream": 19,
        "routes[1].upstream": 21,
        "routes[1].model": 22,
    }


def test_tables_inside_rows_keep_their_lines():
    document = read_document("[[a]]\n[a.b]\nc = 1\n[[a]]\n[[a.d]]\ne = 2\n[[a.d]]\ne = 3\n", "x")
    assert document.lines[("a", 0, "b", "c")] == 3
    assert document.lines[("a", 1, "d", 0, "e")] == 6
    assert document.lines[("a", 1, "d", 1, "e")] == 8


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
upstreams = st.builds(
    Upstream,
    kind=st.just("stub"),
    api_key=st.sampled_from(["", "env:KEY", "file:/run/key"]),
    models=st.lists(texts, max_size=3).map(tuple),
    deadline=st.floats(min_value=0.001, max_value=1e9),
    hourly_usd=st.sampled_from(["", "3", "2.49"]),
    recording=texts,
)


@given(
    named=st.dictionaries(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True), upstreams, max_size=3),
    path=texts,
)
def test_what_is_written_loads_to_the_same_settings(tmp_path_factory, named, path):
    base = Settings(upstreams=named)
    settings = msgspec.structs.replace(base, ledger=msgspec.structs.replace(base.ledger, path=path))
    file = tmp_path_factory.getbasetemp() / "round.toml"
    file.write_bytes(as_toml(settings, {"ledger.path": "a note"}).encode())
    assert load(file, {}).settings == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[budgets.b]\nusd = "0"', '[budgets.b] needs usd = "AMOUNT", above 0'),
        ('[budgets.b]\nusd = "10000000"', "up to 9,000,000 dollars"),
        ('[budgets.b]\nusd = "1"\ntime_zone = "Europe/Berlyn"', 'time zone "Europe/Berlyn", which is none'),
        ('[budgets.b]\nusd = "1"\nperiod = "lifetime"\nwindow = "rolling"', "has no period that could roll"),
        ('[budgets.b]\nusd = "1"\nof = "ann"', 'say of what "ann" is with per'),
        ('[budgets.b]\nusd = "1"\nper = "tag:"', "tag:customer"),
        ("[limits.l]", "[limits.l] limits nothing"),
        ('[budgets.b]\nusd = "1"\n[shared]\nreplicas = 3', "would count budgets for itself"),
        ('[budgets.b]\nusd = "1"\n[shared]\nreplicas = 3\nredis = "env:REDIS"', "would count budgets for itself"),
    ],
)
def test_limits_that_could_not_be_kept_are_refused(written, text, message):
    written(text)
    with pytest.raises(ConfigError) as caught:
        load(None, {})
    assert message in str(caught.value)


def test_gateways_that_share_a_ledger_may_be_many(written):
    written(
        '[budgets.b]\nusd = "1"\n[shared]\nreplicas = 3\npostgres = "env:POSTGRES"\n[key_store]\npepper = "env:PEPPER"'
    )
    assert load(None, {}).settings.shared.replicas == 3


def test_a_gate_needs_audits(written):
    route = '[[routes]]\nmodel = "m"\nupstream = "stub"\naccept = 0.9\ngate = 0.05\n'
    written(STUB + route)
    assert refusal(STUB + route) == [
        "farthing.toml:7: routes[0] has a gate and no audit to tell when it is exceeded; add audit = 0.02, or so"
    ]
    written(STUB + route + "audit = 0.02\n")
    assert load(None, {}).settings.routes[0].audit == 0.02


@pytest.mark.parametrize("value", ["-0.1", "1.1", '"0.9"'])
def test_a_confidence_is_a_share(written, value):
    text = f'{STUB}[[routes]]\nmodel = "m"\nupstream = "stub"\naccept = {value}\n'
    written(text)
    assert "a share from 0 to 1" in refusal(text)[0]
