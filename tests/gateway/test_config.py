"""The site file: what may stand in it, and what a technician is told when something else does."""

import tomllib
from pathlib import Path

import pytest

from gateway import config, doors
from gateway.banks import config as banks_config
from gateway.config import ConfigError, Mode, SiteFile, load, parameters
from gateway.documents import Section, host_port, models_of
from gateway.model.passage import DeclinePolicy
from gateway.points import config as points_config
from gateway.points.card import config as card_config
from gateway.points.card.settings import ChargeCardPurchase
from gateway.points.config import Need
from gateway.points.etc import config as etc_config
from gateway.points.etc.settings import OnePiecePolicy
from gateway.points.fuel import config as fuel_config
from gateway.points.fuel import pump_links
from gateway.points.gate import config as gate_config
from gateway.points.toll import config as toll_config
from gateway.points.toll.settings import LaneKind

SITE = """\
mode = "bench"
[site]
name = "测试收费站"
[lists]
directory = "lists"
[tariffs]
directory = "/srv/tariffs"
[[issuers]]
region = "B2E2CAD4"
name = "issuer-9901"
[[banks]]
name = "bank-1"
address = "127.0.0.1:9001"
merchant_no = "990100047840001"
[[relay_boards]]
name = "plaza"
address = "[::1]:502"
[[charge_points]]
name = "lane-1"
kind = "toll-open"
station = "99010101"
lane_no = 1
gantry = "990101"
antenna = { address = "127.0.0.1:9003" }
outputs = { board = "plaza", barrier = 0, green = 1, red = 2 }
terminals = { bank-1 = ["T0000001", "T0000002"] }
[[charge_points]]
name = "lane-2"
kind = "toll-exit"
station = "99010102"
lane_no = 2
gantry = "990102"
antenna = { address = "127.0.0.1:9004" }
outputs = { board = "plaza", barrier = 3, green = 4, red = 5 }
terminals = { bank-1 = ["T0000003"] }
"""

ISLAND = """\
[[charge_points]]
name = "island-1"
kind = "fuel"
station = "99010101"
lane_no = 3
gantry = "990103"
antenna = { address = "127.0.0.1:9005" }
terminals = { bank-1 = ["T0000004"] }
pumps = [{ name = "bus-1", address = "127.0.0.1:9006" }]
proof = { need = 6 }
[[charge_points.sides]]
number = 1
pump = "bus-1"
address = 80
nozzles = [{ number = 1, grade = "92" }]
"""


@pytest.fixture
def write(tmp_path):
    def put(*changes, text=SITE):
        for old, new in changes:
            assert text.count(old) >= 1, old
            text = text.replace(old, new, 1)
        path = tmp_path / "site.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return put


def problems(path):
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert caught.value.path == path
    for problem in caught.value.problems:
        assert problem.key
        assert str(problem.problem)
        assert str(problem.cure)
        assert f"{path}: {problem}" in str(caught.value)
    return caught.value.problems


def only(path):
    (problem,) = problems(path)
    return problem


def test_a_site_file_is_read_with_what_it_leaves_out(write, tmp_path):
    site = load(write())
    assert site.mode is Mode.BENCH
    assert (site.site.merchant, site.site.utc_offset_min) == ("road", 480)
    one, two = site.charge_points
    assert (one.kind, two.kind) == (LaneKind.OPEN, LaneKind.EXIT)
    assert one.bank_declines is DeclinePolicy.RELEASE_AS_DEBT
    assert one.charge_card_purchase is ChargeCardPurchase.FARE
    assert one.one_piece_tags is OnePiecePolicy.REFUSE
    assert one.antenna.dialect == "pcrsu-v3"
    assert one.terminals == {"bank-1": ["T0000001", "T0000002"]}
    assert site.issuers[0].charge_card_without_mandate == "refuse"


def test_an_island_is_read_with_what_it_leaves_out(write):
    island = load(write(text=SITE + ISLAND)).charge_points[2]
    assert (island.kind, island.limit_fen, island.limits) == ("fuel", 100_000, {})
    assert (island.pumps[0].dialect, island.pumps[0].price_decimals) == ("dart", 2)
    assert island.sides[0].nozzles[0].grade == "92"
    assert (island.proof.need, island.proof.lead, sorted(island.proof.weights.values())) == (6, 4, [6, 6, 10])


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ('pump = "bus-1"', 'pump = "bus-2"', "charge_points[2].sides[0].pump"),
        (
            'address = "127.0.0.1:9006" }',
            'address = "127.0.0.1:9006", dialect = "ifsf" }',
            "charge_points[2].pumps[0].dialect",
        ),
        ("127.0.0.1:9005", "127.0.0.1:9004", "charge_points[2].antenna.address"),
    ],
)
def test_an_island_with_a_mistake_is_told_where(write, old, new, key):
    assert only(write((old, new), text=SITE + ISLAND)).key == key


def test_two_sides_have_neither_a_number_nor_a_place_in_common(write):
    side = ISLAND[ISLAND.index("[[charge_points.sides]]") :]
    found = problems(write(text=SITE + ISLAND + side))
    assert {problem.key for problem in found} == {f"charge_points[2].sides[{i}].number" for i in (0, 1)}
    second = side.replace("number = 1\npump", "number = 2\npump")
    assert only(write(text=SITE + ISLAND + second)).key == "charge_points[2].sides[1].address"


def test_paths_count_from_the_folder_of_the_file(write, tmp_path, monkeypatch):
    path = write()
    monkeypatch.chdir(tmp_path)
    for given in (path, Path("site.toml")):
        site = load(given)
        assert site.storage.ledger == tmp_path / "ledger.db"
        assert site.storage.state == tmp_path / "state.json"
        assert site.lists.directory == tmp_path / "lists"
        assert site.tariffs.directory == Path("/srv/tariffs")
        assert site.rules.file is None
    assert load(write(("[lists]", '[rules]\nfile = "rules.toml"\n[lists]'))).rules.file == tmp_path / "rules.toml"
    text = write(("[lists]", '[clearing]\nrules = "clearing.toml"\n[lists]'))
    assert load(text).clearing.rules == tmp_path / "clearing.toml"


@pytest.mark.parametrize(
    ("address", "parts"),
    [("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:502", ("::1", 502)), ("rsu.example:65535", ("rsu.example", 65535))],
)
def test_addresses_are_split(address, parts):
    assert host_port(address) == parts


def sections(model=SiteFile):
    """Every section a site file can have, by its class."""
    yield model
    for field in model.model_fields.values():
        for inner in models_of(field.annotation):
            yield from sections(inner)


MODULES = (
    config,
    doors,
    banks_config,
    points_config,
    card_config,
    etc_config,
    fuel_config,
    pump_links,
    gate_config,
    toll_config,
)
BASES = (
    Section,
    points_config.ChargePoint,
    card_config.CardPoint,
    etc_config.EtcPoint,
    toll_config.TollLane,
    pump_links.PumpLink,
    pump_links.PumpController,
)
"""Of several kinds; no section is only this."""


def test_the_walk_above_finds_every_section():
    declared = {
        kind
        for module in MODULES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Section) and kind not in BASES
    }
    assert set(sections()) == declared


def test_parameters_tell_every_key_with_a_description():
    told = {key: (default, description) for key, default, description in parameters()}

    def keys(model, prefix=""):
        for name, field in model.model_fields.items():
            inner = models_of(field.annotation)
            found = [keys(model, f"{prefix}{name}.") for model in inner] if inner else [[f"{prefix}{name}"]]
            for of_model in found:
                yield from of_model

    assert sorted(told) == sorted(set(keys(SiteFile)))
    assert len(list(parameters())) == len(told), "each key once, whatever number of kinds has it"
    assert all(description for _, description in told.values())
    assert told["mode"][0] == "required"
    assert told["charge_points.deadline_ms"][0] == "2000"
    assert told["charge_points.terminals"][0] == told["storage.mark"][0] == ""
    assert told["charge_points.antenna.ignore_psam_auth"][0] == "false"
    assert told["charge_points.antenna.address"][0] == "required"


UNKNOWN_KEYS = [
    ('mode = "bench"', 'mode = "bench"\nmood = 1', "mood"),
    ("[site]", "[site]\nnam = 1", "site.nam"),
    ("[lists]", "[lists]\nage_limit = 1", "lists.age_limit"),
    ("[tariffs]", "[tariffs]\nx = 1", "tariffs.x"),
    ("[lists]", "[storage]\nlegder = 'x'\n[lists]", "storage.legder"),
    ("[lists]", "[rules]\nversion = 'x'\n[lists]", "rules.version"),
    ("[lists]", "[clearing]\nrule = 'x'\n[lists]", "clearing.rule"),
    ("[[issuers]]", "[[issuers]]\nkey = 1", "issuers[0].key"),
    ("[[banks]]", '[[banks]]\npassword = "secret"', "banks[0].password"),
    ("[[relay_boards]]", "[[relay_boards]]\nunits = 1", "relay_boards[0].units"),
    ("lane_no = 2", "lane_no = 2\nlimit = 1", "charge_points[1].limit"),
    ('{ address = "127.0.0.1:9003" }', '{ address = "127.0.0.1:9003", power = 3 }', "charge_points[0].antenna.power"),
    ("red = 2 }", "red = 2, amber = 7 }", "charge_points[0].outputs.amber"),
    ("proof = { need = 6 }", "proof = { needs = 6 }", "charge_points[2].proof.needs"),
    ('address = "127.0.0.1:9006" }', 'address = "127.0.0.1:9006", baud = 9 }', "charge_points[2].pumps[0].baud"),
    ("address = 80", "address = 80\nspeed = 1", "charge_points[2].sides[0].speed"),
    ('grade = "92" }', 'grade = "92", octane = 92 }', "charge_points[2].sides[0].nozzles[0].octane"),
    (
        'address = "127.0.0.1:9006" }',
        'address = "127.0.0.1:9006" }, { name = "pts", dialect = "jsonpts", pts_id = "003A003A3435510938393730", '
        'calls = { sources = ["192.168.1.5"], password = "x" } }',
        "charge_points[2].pumps[1].calls.password",
    ),
    ("[lists]", "[http]\nport = 80\n[lists]", "http.port"),
    ("[lists]", "[bench]\nspeed = 2\n[lists]", "bench.speed"),
    ("[lists]", "[people]\nport = 2\n[lists]", "people.port"),
    ("[lists]", "[people.roles]\nboss = []\n[lists]", "people.roles.boss"),
]


def test_unknown_keys_are_tried_in_every_section():
    def depth(key):
        return key.rpartition(".")[0].replace("[0]", "").replace("[1]", "").replace("[2]", "")

    tried = {depth(key) for _, _, key in UNKNOWN_KEYS}
    wanted = {""} | {key.rpartition(".")[0] for key, _, _ in parameters()}
    assert tried == wanted


@pytest.mark.parametrize(("old", "new", "key"), UNKNOWN_KEYS)
def test_an_unknown_key_is_an_error(write, old, new, key):
    problem = only(write((old, new), text=SITE + ISLAND))
    assert (problem.key, str(problem.problem)) == (key, "is not a known key")
    assert "spelling" in str(problem.cure)


WRONG = [
    ('mode = "bench"', 'mode = "test"', "mode", "'test'"),
    ('name = "测试收费站"', 'name = ""', "site.name", "''"),
    ('name = "测试收费站"', 'name = "x"\nutc_offset_min = 900', "site.utc_offset_min", "900"),
    ('name = "测试收费站"', 'name = "x"\nmerchant = "Road 1"', "site.merchant", "'Road 1'"),
    ('directory = "lists"', 'directory = "lists"\nage_limit_h = 0', "lists.age_limit_h", "0"),
    ('directory = "lists"', 'directory = "lists"\nage_limit_h = nan', "lists.age_limit_h", "nan"),
    ('directory = "lists"', 'directory = "lists"\nlook_every_s = inf', "lists.look_every_s", "inf"),
    ('directory = "lists"', "directory = 7", "lists.directory", "7"),
    ('region = "B2E2CAD4"', 'region = "B2E2CAD"', "issuers[0].region", "'B2E2CAD'"),
    ('name = "issuer-9901"', 'name = "Issuer"', "issuers[0].name", "'Issuer'"),
    (
        'name = "issuer-9901"',
        'name = "i"\ncharge_card_without_mandate = "free"',
        "issuers[0].charge_card_without_mandate",
        "'free'",
    ),
    ('"127.0.0.1:9001"', '"127.0.0.1"', "banks[0].address", "'127.0.0.1'"),
    ('"127.0.0.1:9001"', '"127.0.0.1:0"', "banks[0].address", "'127.0.0.1:0'"),
    ('"127.0.0.1:9001"', '"127.0.0.1:65536"', "banks[0].address", "'127.0.0.1:65536'"),
    ('"127.0.0.1:9001"', '":9001"', "banks[0].address", "':9001'"),
    ('"990100047840001"', '"99010004784000"', "banks[0].merchant_no", "'99010004784000'"),
    ('"990100047840001"', '"990100047840001"\nresponse_codes = "own"', "banks[0].response_codes", "'own'"),
    ('"990100047840001"', '"990100047840001"\nnot_echoed = [42, 4]', "banks[0].not_echoed[1]", "4"),
    ('"990100047840001"', '"990100047840001"\ntpdu = "60"', "banks[0].tpdu", "'60'"),
    ('"[::1]:502"', '"[::1]:502"\nunit = 248', "relay_boards[0].unit", "248"),
    ('kind = "toll-open"', 'kind = "closed"', "charge_points[0].kind", "'closed'"),
    ('station = "99010101"', 'station = "9901010G"', "charge_points[0].station", "'9901010G'"),
    ("lane_no = 1", "lane_no = 256", "charge_points[0].lane_no", "256"),
    ('gantry = "990101"', 'gantry = "9901"', "charge_points[0].gantry", "'9901'"),
    ("barrier = 0", "barrier = -1", "charge_points[0].outputs.barrier", "-1"),
    ("red = 2 }", "red = 2, pulse_ms = 49 }", "charge_points[0].outputs.pulse_ms", "49"),
    ("red = 2 }", "red = 2, closed_limit = -1 }", "charge_points[0].outputs.closed_limit", "-1"),
    ("red = 2 }", "red = 2, travel_ms = 99 }", "charge_points[0].outputs.travel_ms", "99"),
    ('"T0000002"', '"T000002"', "charge_points[0].terminals.bank-1[1]", "'T000002'"),
    ("lane_no = 1", "lane_no = 1\ndeadline_ms = 499", "charge_points[0].deadline_ms", "499"),
    ("lane_no = 1", 'lane_no = 1\none_piece_tags = "free"', "charge_points[0].one_piece_tags", "'free'"),
    ("lane_no = 1", 'lane_no = 1\nbank_declines = "open"', "charge_points[0].bank_declines", "'open'"),
    ("lane_no = 1", 'lane_no = 1\ncharge_card_purchase = "none"', "charge_points[0].charge_card_purchase", "'none'"),
    ("lane_no = 1", "lane_no = 1\nrepeat_window_s = 0", "charge_points[0].repeat_window_s", "0"),
    ("lane_no = 1", "lane_no = 1\nquiet_s = -1", "charge_points[0].quiet_s", "-1"),
    (':9003" }', ':9003", tx_power = 32 }', "charge_points[0].antenna.tx_power", "32"),
    (':9003" }', ':9003", lane_mode = 256 }', "charge_points[0].antenna.lane_mode", "256"),
    (':9003" }', ':9003", dialect = "vendor-x" }', "charge_points[0].antenna.dialect", "'vendor-x'"),
    (':9003" }', ':9003", errors = "vendor-x" }', "charge_points[0].antenna.errors", "'vendor-x'"),
]


@pytest.mark.parametrize(("old", "new", "key", "value"), WRONG)
def test_a_wrong_value_is_named_with_what_is_expected(write, old, new, key, value):
    problem = only(write((old, new)))
    assert (problem.key, problem.value) == (key, value)
    assert str(problem.cure).startswith(("Expected: ", "Known are: "))


MISSING = [
    ('mode = "bench"\n', "mode"),
    ('name = "测试收费站"\n', "site.name"),
    ('region = "B2E2CAD4"\n', "issuers[0].region"),
    ('merchant_no = "990100047840001"\n', "banks[0].merchant_no"),
    ('kind = "toll-exit"\n', "charge_points[1].kind"),
    ('antenna = { address = "127.0.0.1:9004" }\n', "charge_points[1].antenna"),
    ('outputs = { board = "plaza", barrier = 3, green = 4, red = 5 }\n', "charge_points[1].outputs"),
]


@pytest.mark.parametrize(("old", "key"), MISSING)
def test_a_missing_key_is_named(write, old, key):
    problem = only(write((old, "")))
    assert (problem.key, problem.value, str(problem.problem)) == (key, "", "is missing")
    assert str(problem.cure).startswith("Add it")


@pytest.mark.parametrize(
    ("section", "keys"),
    [
        ("issuers", {"issuers"}),
        ("relay_boards", {"charge_points[0].outputs.board", "charge_points[1].outputs.board"}),
        ("charge_points", {"charge_points"}),
    ],
)
def test_what_a_lane_cannot_do_without(write, section, keys):
    table = tomllib.loads(SITE)
    assert table[section]
    parts = SITE.split(f"[[{section}]]\n")
    rest = "".join(part[part.index("\n[") + 1 :] if "\n[" in part else "" for part in parts[1:])
    found = problems(write(text=f"{section} = []\n" + parts[0] + rest))
    assert {problem.key for problem in found} == keys
    assert all(problem.value for problem in found)


@pytest.mark.parametrize("kind", ["toll-open", "toll-exit", "toll-entry"])
def test_a_lane_of_any_kind_and_nothing_that_it_does_not_need(write, kind):
    """No bank: purses pay, or nobody. Lists and tariffs stand where they stand by default."""
    head, first, _ = SITE.split("[[charge_points]]\n")
    first = first.replace("toll-open", kind).replace('terminals = { bank-1 = ["T0000001", "T0000002"] }\n', "")
    head = head[: head.index("[lists]")] + head[head.index("[[issuers]]") : head.index("[[banks]]")]
    board = '[[relay_boards]]\nname = "plaza"\naddress = "[::1]:502"\n'
    site = load(write(text=f"{head}{board}[[charge_points]]\n{first}"))
    assert [point.kind for point in site.charge_points] == [kind]
    assert site.need(Need.TARIFFS) is (kind != "toll-entry")
    assert site.need(Need.LISTS)
    assert (site.banks, site.charge_points[0].terminals) == ([], {})


LINE = '{ name = "bus-1", address = "127.0.0.1:9006" }'
NUMBER = "003A003A3435510938393730"
CALLED = f'{{ name = "bus-1", dialect = "jsonpts", pts_id = "{NUMBER}", address = "https://pts.example:443" }}'
CALLING = f'{{ name = "bus-1", dialect = "jsonpts", pts_id = "{NUMBER}", calls = {{ sources = ["192.168.1.5"] }} }}'
FIRST_PUMP = ("address = 80", "address = 1")
REACHED = ("[lists]", '[http]\nlisten = "192.168.1.2:8430"\nwithout_tls = true\n[lists]')


@pytest.mark.parametrize(
    ("link", "kind"), [(CALLED, pump_links.CalledController), (CALLING, pump_links.CallingController)]
)
def test_an_island_takes_a_controller_that_is_called_or_calls(write, link, kind):
    island = load(write((LINE, link), FIRST_PUMP, REACHED, text=SITE + ISLAND)).charge_points[2]
    assert type(island.pumps[0]) is kind
    assert (island.pumps[0].volume_decimals, list(island.secrets())) == (2, [])


def test_files_of_a_controller_count_from_the_folder_of_the_site_file(write, tmp_path):
    files = 'login = "in", certificate = "c.pem", calls = { sources = ["::1"], login = "out", secret = "key" } }'
    link = CALLED.removesuffix(" }") + f", {files}"
    pump = load(write((LINE, link), FIRST_PUMP, text=SITE + ISLAND)).charge_points[2].pumps[0]
    assert pump.certificate == tmp_path / "c.pem"
    assert {secret.key: secret.path for secret in pump.secrets()} == {
        "login": tmp_path / "in",
        "calls.login": tmp_path / "out",
        "calls.secret": tmp_path / "key",
    }


@pytest.mark.parametrize(
    ("link", "key", "cure"),
    [
        (LINE.replace(" }", ', dialect = "jsonpt" }'), "dialect", "jsonpts"),
        (CALLED.replace("https", "ftp"), "address", "http://host:port"),
        (CALLED.replace("443", "70000"), "address", "http://host:port"),
        (CALLED.replace("003A", "3A"), "pts_id", "24 hex digits"),
        (CALLED.replace(f'pts_id = "{NUMBER}", ', ""), "pts_id", "Add it"),
        (CALLED.replace(" }", ', login_kind = "none" }'), "login_kind", "digest"),
        (CALLING.replace(', calls = { sources = ["192.168.1.5"] }', ""), "calls", "give `address` instead"),
        (CALLING.replace('"192.168.1.5"', ""), "calls.sources", "its number alone proves nothing"),
        (CALLING.replace("192.168.1.5", "pts.example"), "calls.sources[0]", "addresses that it may come from"),
    ],
)
def test_a_wrong_controller_is_told_by_its_own_keys(write, link, key, cure):
    problem = only(write((LINE, link), FIRST_PUMP, text=SITE + ISLAND))
    assert problem.key == f"charge_points[2].pumps[0].{key}"
    assert cure in str(problem.cure)


def test_a_side_has_a_place_at_its_controller(write):
    problem = only(write((LINE, CALLING), ("address = 80", "address = 121"), REACHED, text=SITE + ISLAND))
    assert (problem.key, problem.value) == ("charge_points[2].sides[0].address", "121")
    assert "1 to 120" in str(problem.cure)


@pytest.mark.parametrize(
    ("link", "other", "keys"),
    [
        (CALLING, CALLING.replace("bus-1", "bus-2").replace("003A", "003a"), {"pumps[1].pts_id"}),
        (LINE, LINE.replace("bus-1", "bus-2"), {"pumps[1].address"}),
        (LINE, LINE.replace("9006", "9007"), {"pumps.name"}),
    ],
)
def test_a_link_is_named_once(write, link, other, keys):
    place = () if link is LINE else (FIRST_PUMP,)
    found = problems(write((LINE, f"{link}, {other}"), *place, REACHED, text=SITE + ISLAND))
    assert {problem.key for problem in found} == {f"charge_points[2].{key}" for key in keys}


def test_a_controller_that_cannot_reach_the_gateway_is_told(write):
    problem = only(write((LINE, CALLING), FIRST_PUMP, text=SITE + ISLAND))
    assert (problem.key, problem.value) == ("charge_points[2].pumps[0].calls.sources[0]", "'192.168.1.5'")
    assert "http.listen" in str(problem.cure)


@pytest.mark.parametrize(
    ("http", "key"),
    [
        ('listen = "0.0.0.0:8430"', "http.listen"),
        ('listen = "gateway.example:8430"', "http.listen"),
        ('key = "key.pem"', "http.key"),
        ('listen = "127.0.0.1:0"', "http.listen"),
    ],
)
def test_a_server_that_others_reach_needs_a_certificate(write, http, key):
    assert only(write(("[lists]", f"[http]\n{http}\n[lists]"))).key == key


@pytest.mark.parametrize(
    "http",
    [
        "",
        'listen = "[::1]:80"',
        'listen = "localhost:80"',
        'listen = "0.0.0.0:8430"\nwithout_tls = true',
        'listen = "0.0.0.0:8430"\ncertificate = "c.pem"\nkey = "k.pem"',
    ],
)
def test_other_servers_are_right(write, tmp_path, http):
    section = load(write(("[lists]", f"[http]\n{http}\n[lists]"))).http
    assert section.certificate in (None, tmp_path / "c.pem")


def test_the_known_kinds_are_told(write):
    problem = only(write(('kind = "toll-open"', 'kind = "toll"')))
    assert (problem.key, problem.value) == ("charge_points[0].kind", "'toll'")
    assert "toll-open, toll-exit, toll-entry" in str(problem.cure)


def test_every_problem_is_told_at_once(write):
    found = problems(
        write(("lane_no = 1", "lane_no = 999"), ('kind = "toll-exit"', 'kind = "?"'), ("[site]", "[site]\na=1"))
    )
    assert {problem.key for problem in found} == {"charge_points[0].lane_no", "charge_points[1].kind", "site.a"}


def test_a_long_value_is_cut(write):
    problem = only(write(('region = "B2E2CAD4"', f'region = "{"A" * 500}"')))
    assert len(problem.value) == 60


CROSS = [
    ('name = "lane-2"', 'name = "lane-1"', {"charge_points.name"}, "used twice"),
    (
        'board = "plaza", barrier = 3',
        'board = "other", barrier = 3',
        {"charge_points[1].outputs.board"},
        "no relay board",
    ),
    ("barrier = 3", "barrier = 0", {"charge_points[1].outputs.barrier"}, "belongs to barrier of lane-1"),
    ("red = 2", "red = 1", {"charge_points[0].outputs.red"}, "belongs to green of lane-1"),
    ("127.0.0.1:9004", "127.0.0.1:9003", {"charge_points[1].antenna.address"}, "belongs to lane-1"),
    (
        'station = "99010102"\nlane_no = 2',
        'station = "99010101"\nlane_no = 1',
        {"charge_points[1].lane_no"},
        "is the number of lane-1",
    ),
    ('bank-1 = ["T0000003"]', 'bank-2 = ["T0000003"]', {"charge_points[1].terminals"}, "is no bank"),
    ('"T0000003"', '"T0000001"', {"charge_points[1].terminals.bank-1"}, "belongs to lane-1"),
    ('"T0000002"', '"T0000001"', {"charge_points[0].terminals.bank-1"}, "named twice"),
    (
        "[[banks]]",
        '[[issuers]]\nregion = "b2e2cad4"\nname = "other"\n[[banks]]',
        {"issuers.region"},
        "used twice",
    ),
    (
        "[[relay_boards]]",
        '[[relay_boards]]\nname = "plaza"\naddress = "127.0.0.1:502"\n[[relay_boards]]',
        {"relay_boards.name"},
        "used twice",
    ),
    (
        "[[relay_boards]]",
        '[[relay_boards]]\nname = "again"\naddress = "[::1]:502"\n[[relay_boards]]',
        {"relay_boards[1].address"},
        "belongs to again",
    ),
    (
        "[[banks]]",
        '[[banks]]\nname = "bank-1"\naddress = "127.0.0.1:1"\nmerchant_no = "990100047840001"\n[[banks]]',
        {"banks.name"},
        "used twice",
    ),
    (
        "[[relay_boards]]",
        '[[banks]]\nname = "bank-2"\naddress = "127.0.0.1:1"\nmerchant_no = "990100047840001"\n[[relay_boards]]',
        {"banks[1]"},
        "has no terminal",
    ),
]


@pytest.mark.parametrize(("old", "new", "keys", "words"), CROSS)
def test_what_one_key_alone_cannot_tell(write, old, new, keys, words):
    found = problems(write((old, new)))
    assert {problem.key for problem in found} == keys
    assert all(words in str(problem.problem) for problem in found)
    assert all(problem.value for problem in found)


def test_each_barrier_has_a_limit_input_of_its_own(write):
    first = ("red = 2 }", "red = 2, closed_limit = 1 }")
    (problem,) = problems(write(first, ("red = 5 }", "red = 5, closed_limit = 1 }")))
    assert (problem.key, problem.value) == ("charge_points[1].outputs.closed_limit", "1")
    assert "belongs to lane-1" in str(problem.problem)
    good = load(write(first, ("red = 5 }", "red = 5, closed_limit = 2, travel_ms = 700 }")))
    assert [(lane.outputs.closed_limit, lane.outputs.travel_ms) for lane in good.charge_points] == [(1, 1000), (2, 700)]


def test_one_coil_number_on_two_boards_is_two_coils(write):
    other = '[[relay_boards]]\nname = "plaza-2"\naddress = "127.0.0.1:502"\n[[relay_boards]]'
    load(write(("[[relay_boards]]", other), ('board = "plaza", barrier = 3', 'board = "plaza-2", barrier = 0')))


def test_two_units_behind_one_address_are_two_boards(write):
    other = '[[relay_boards]]\nname = "plaza-2"\naddress = "[::1]:502"\nunit = 2\n[[relay_boards]]'
    load(write(("[[relay_boards]]", other)))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"mode = ", "is not TOML"),
        (b"\xff\xfe", "byte 0 does not fit"),
        ("# 站点".encode("gbk"), "looks like GBK"),
        (b"#" * (config.FILE_BYTES_MAX + 1), "too large"),
    ],
)
def test_a_file_that_is_no_site_file(tmp_path, data, words):
    path = tmp_path / "site.toml"
    path.write_bytes(data)
    problem = only(path)
    assert problem.key == "file"
    assert words in str(problem.problem)


def test_a_file_that_is_not_there(tmp_path):
    assert "No such file" in str(only(tmp_path / "none.toml").problem)
    assert "directory" in str(only(tmp_path).problem)


def test_nothing_read_can_be_changed(write):
    site = load(write())
    with pytest.raises(ValueError, match="frozen"):
        site.mode = Mode.PRODUCTION


def test_production_has_no_switches_of_a_bench(write):
    """With the keys of the bench: the published chain key is refused by `chain_key_files`."""
    switched = ("[lists]", "[bench]\nclock = 1970-01-01T00:00:00Z\n[lists]")
    assert load(write(switched)).bench.clock.year == 1970
    problem = only(write(switched, ('mode = "bench"', 'mode = "production"')))
    assert (problem.key, str(problem.cure)) == ("bench", "Remove the section")
    assert load(write(('mode = "bench"', 'mode = "production"'))).bench is None


def test_a_bench_clock_without_a_zone_is_refused(write):
    assert only(write(("[lists]", "[bench]\nclock = 1970-01-01T00:00:00\n[lists]"))).key == "bench.clock"
