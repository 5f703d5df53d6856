"""From YAML to a checked configuration: layers, names, numbers, and every refusal with its place."""

import io
from pathlib import Path

import pytest

from liptt_cli import config as module
from liptt_cli.config import find_config, load_config, parse_yaml, render_config, shipped_configs
from liptt_cli.errors import ConfigError, Fault

_RECIPE = """\
version: 1
method: sample
bits_per_weight: 1.0
calibration: {windows: 16, damping: 1e-3}
binarize: {codec: {kind: binary}, solver: {kind: admm, iterations: 30}}
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the shipped configurations, with one recipe on it."""
    folder = tmp_path / "shelf"
    (folder / "methods").mkdir(parents=True)
    (folder / "methods" / "sample.yaml").write_text(_RECIPE)
    monkeypatch.setattr(module, "configs_folder", lambda: folder)
    return folder


def _write(tmp_path: Path, text: str, name: str = "run.yaml") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def _faults(config: str, *overrides: str) -> list[Fault]:
    with pytest.raises(ConfigError) as refused:
        load_config(config, overrides=overrides)
    return list(refused.value.faults)


def test_layers_default_recipe_file_override(shelf: Path, tmp_path: Path):
    text = "method: sample\ncalibration: {windows: 8}\n"
    loaded = load_config(_write(tmp_path, text), overrides=["binarize.solver.iterations=5", "seed=7"])
    assert loaded.config.calibration.windows == 8
    assert loaded.config.calibration.damping == 1e-3
    assert loaded.config.calibration.most_tokens == 2048
    assert loaded.resolved["binarize"]["solver"]["iterations"] == 5
    assert loaded.config.seed == 7
    assert loaded.source_text == text
    assert loaded.source_path == tmp_path / "run.yaml"


def test_extends_lies_between_the_recipe_and_the_file(shelf: Path, tmp_path: Path):
    _write(tmp_path, "method: sample\nseed: 3\ncalibration: {windows: 9, damping: 0.5}\n", "base.yaml")
    loaded = load_config(_write(tmp_path, "extends: base.yaml\ncalibration: {windows: 4}\n"))
    assert (loaded.config.seed, loaded.config.bits_per_weight) == (3, 1.0)
    assert (loaded.config.calibration.windows, loaded.config.calibration.damping) == (4, 0.5)
    assert loaded.config.extends is None


def test_extends_goes_one_level_deep(shelf: Path, tmp_path: Path):
    _write(tmp_path, "method: sample\n", "a.yaml")
    _write(tmp_path, "\nextends: a.yaml\n", "b.yaml")
    (fault,) = _faults(_write(tmp_path, "extends: b.yaml\n"))
    assert (fault.file, fault.line, fault.key) == (str(tmp_path / "b.yaml"), 2, "extends")
    assert "one level" in fault.message


def test_an_absent_base_is_told_where_it_is_named(shelf: Path, tmp_path: Path):
    (fault,) = _faults(_write(tmp_path, "seed: 1\nextends: methods/sampel\n"))
    assert (fault.line, fault.column, fault.key) == (2, 10, "extends")
    assert "Did you mean 'methods/sample'?" in fault.message


def test_the_method_can_be_chosen_on_the_command_line(shelf: Path, tmp_path: Path):
    other = _RECIPE.replace("sample", "other").replace("30", "31").replace("bits_per_weight: 1.0", "")
    (shelf / "methods" / "other.yaml").write_text(other)
    loaded = load_config(_write(tmp_path, "method: sample\n"), overrides=["method=other"])
    assert loaded.config.method == "other"
    assert loaded.resolved["binarize"]["solver"]["iterations"] == 31
    assert loaded.config.bits_per_weight is None


def test_an_unknown_method_is_refused_unless_the_file_defines_it(shelf: Path, tmp_path: Path):
    (fault,) = _faults(_write(tmp_path, "method: sampl\n"))
    assert (fault.line, fault.column) == (1, 9)
    assert "Did you mean 'sample'?" in fault.message
    assert load_config(_write(tmp_path, "method: sampl\nbinarize: {refit: true}\n")).config.method == "sampl"


def test_a_file_that_is_the_recipe_is_not_laid_over_itself(shelf: Path):
    assert load_config("methods/sample").config.calibration.windows == 16
    assert load_config(str(shelf / "methods" / "sample.yaml")).config.method == "sample"


def test_a_method_may_be_a_file(shelf: Path, tmp_path: Path):
    _write(tmp_path, _RECIPE.replace("16", "17"), "mine.yaml")
    assert load_config(_write(tmp_path, "method: mine.yaml\n")).config.calibration.windows == 17


def test_another_kind_replaces_the_recipe_s_arguments(shelf: Path, tmp_path: Path):
    loaded = load_config(_write(tmp_path, "method: sample\n"), overrides=["binarize.solver.kind=direct"])
    assert loaded.resolved["binarize"]["solver"] == {"kind": "direct"}


def test_target_size_takes_the_place_of_bits_per_weight(shelf: Path, tmp_path: Path):
    loaded = load_config(_write(tmp_path, "method: sample\ntarget_size: 900MB\n"))
    assert (loaded.config.bits_per_weight, loaded.config.target_size) == (None, 900_000_000)


def test_names_are_found_from_any_folder(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    expected = shelf / "methods" / "sample.yaml"
    assert [find_config(name) for name in ("methods/sample", "methods/sample.yaml")] == [expected, expected]
    assert list(shipped_configs()) == ["methods/sample"]


def test_a_path_goes_before_a_shipped_name(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "methods").mkdir()
    _write(tmp_path / "methods", _RECIPE.replace("16", "18"), "sample")
    assert load_config("methods/sample").config.calibration.windows == 18


@pytest.mark.parametrize("name", ["methods/sampel.yaml", "sample", "methods/samples"])
def test_a_missing_file_is_told_with_the_nearest_name(shelf: Path, name: str):
    (fault,) = _faults(name)
    assert fault.message.startswith(f"{name}: no such file")
    assert "sample'" in fault.message


def test_a_folder_is_no_configuration(shelf: Path, tmp_path: Path):
    assert "folder" in _faults(str(tmp_path))[0].message


def test_standard_input_is_a_file(shelf: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("method: sample\nseed: x\n"))
    (fault,) = _faults("-")
    assert (fault.file, fault.line, fault.column) == ("<stdin>", 2, 7)


def test_all_faults_are_told_at_once_each_at_its_place(shelf: Path, tmp_path: Path):
    text = "method: sample\nsed: 1\ncalibration:\n  window: 8\n  damping: low\nbinarize: {solver: {kind: adm}}\n"
    path = _write(tmp_path, text)
    found = _faults(path, "finetune.steps=1.5", "nonsense")
    assert [(fault.file, fault.line, fault.column, fault.key) for fault in found] == [
        ("--set nonsense", None, None, ""),
        ("--set finetune.steps=1.5", None, None, "finetune.steps"),
        (path, 2, 1, "sed"),
        (path, 4, 3, "calibration.window"),
        (path, 5, 12, "calibration.damping"),
        (path, 6, 27, "binarize.solver.kind"),
    ]
    assert "Did you mean 'seed'?" in found[2].message
    assert "Did you mean 'windows'?" in found[3].message
    assert found[4].message.startswith("expected a number, not the text 'low' (share of the mean diagonal")
    assert "Did you mean 'admm'?" in found[5].message


@pytest.mark.parametrize("word", ["yes", "on", "no", "off", "True", "y"])
def test_only_true_and_false_are_booleans(shelf: Path, tmp_path: Path, word: str):
    (fault,) = _faults(_write(tmp_path, f"method: sample\nbinarize: {{refit: {word}}}\n"))
    assert fault.message.startswith(f"expected true or false, not the text {word!r}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("-2.", -2.0),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("~", None),
        ("'1e-4'", "1e-4"),
        ("1e", "1e"),
        ("-", None),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object):
    plain = parse_yaml(f"a: {text}" if text != "-" else "a:", name="file").plain()
    assert plain == {"a": value}
    assert type(plain["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", 2, 11, "duplicate key; the first stands in line 2"),
        ("a: 1\n\na: 2\n", 3, 1, "duplicate key; the first stands in line 1"),
        ("a: [1\n", 2, 1, "not valid YAML"),
        ("a:\n\tb: 1\n", 2, 1, "not valid YAML"),
        ("1: 2\n", 1, 1, "a key must be text"),
        ("? {a: 1}\n: 2\n", 1, 3, "a key must be text"),
        ("a: &x 1\nb: *x\n", 2, 4, "aliases are not read here"),
        ("a: &x [*x]\n", 1, 8, "aliases are not read here"),
        ("a: !!python/name:os.system x\n", 1, 4, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, 1, "not valid YAML"),
    ],
)
def test_what_is_not_read_is_refused_where_it_stands(text: str, line: int, column: int, message: str):
    with pytest.raises(ConfigError) as refused:
        parse_yaml(text, name="file")
    (fault,) = refused.value.faults
    assert (fault.file, fault.line, fault.column) == ("file", line, column)
    assert fault.message.startswith(message)


def test_bytes_that_are_no_text_are_refused(shelf: Path, tmp_path: Path):
    (tmp_path / "run.yaml").write_bytes(b"method: \xff\n")
    assert "not UTF-8" in _faults(str(tmp_path / "run.yaml"))[0].message


@pytest.mark.parametrize("text", ["- 1\n", "word\n"])
def test_a_configuration_is_a_mapping(shelf: Path, tmp_path: Path, text: str):
    assert _faults(_write(tmp_path, text))[0].message == "a configuration is a mapping of keys"


def test_an_empty_file_lacks_a_method(shelf: Path, tmp_path: Path):
    (fault,) = _faults(_write(tmp_path, ""))
    assert (fault.key, fault.message) == ("method", "this key is needed")


@pytest.mark.parametrize("override", ["seed", "=1", "a..b=1", ".seed=1"])
def test_an_override_needs_a_key_and_a_value(shelf: Path, override: str):
    (fault,) = _faults("methods/sample", override)
    assert fault == Fault("", "expected stage.key=value", f"--set {override}")


def test_an_override_s_value_is_yaml(shelf: Path):
    overrides = ["load.skip=[a, 'b*']", "finetune={objectives: [{kind: label_nats}]}", "model=x=y", "target_size="]
    loaded = load_config("methods/sample", overrides=[*overrides, "finetune.objectives.0.weight=1e-1"])
    assert loaded.config.load.skip == ["a", "b*"]
    assert loaded.resolved["finetune"]["objectives"] == [{"kind": "label_nats", "weight": 0.1}]
    assert loaded.config.model == "x=y"
    (fault,) = _faults("methods/sample", "load.skip=[a")
    assert fault.file == "--set load.skip=[a"
    (fault,) = _faults("methods/sample", "load.skip=[a]", "load.skip.1=b")
    assert "the list has 1 entries" in fault.message


def test_a_resolved_configuration_reads_back_the_same(shelf: Path, tmp_path: Path):
    loaded = load_config("methods/sample", overrides=["model='1e-4'", "revision='yes'", "finetune.betas=[0.00001, 1]"])
    again = load_config(_write(tmp_path, render_config(loaded.resolved)))
    assert again.config == loaded.config
    assert again.resolved == loaded.resolved
