"""Configurations: round trips, overrides, and one clear line for each mistake."""

import pytest

import spon
from spon.training.config import RunConfig, parse_override


def test_what_is_written_is_read_back(tmp_path):
    config = RunConfig(
        model={"processor": "Multigrid", "transform": "log"},
        processor={"widths": [4, 6], "coefficient": False, "dtype": "float64"},
        training=spon.Training(
            max_seconds=1e-300, learning_rate=0.1 + 0.2, seed=2**60, loss="l2", lbfgs_samples=7
        ),
        device="cuda:1",
        data={
            "path": ['a "b" \\ \x7f\x01\n é 😀.h5'],
            "samples": [[1, 2], [3]],
            "a key": {"with space": [1.5, 1e22]},
        },
    )
    config.write(tmp_path / "config.toml")
    assert RunConfig.read(tmp_path / "config.toml") == config
    assert config.differences(config) == []
    RunConfig().write(tmp_path / "config.toml")
    assert RunConfig.read(tmp_path / "config.toml") == RunConfig()


def test_differences_are_named():
    a = RunConfig(training=spon.Training(epochs=3), processor={"cycles": 1}, data={"path": ["a"]})
    b = RunConfig(training=spon.Training(epochs=4, max_seconds=2.0), data={"path": ["b"]}, device="cuda")
    assert a.differences(b) == [
        "processor.cycles = 1, not none",
        "training.epochs = 3, not 4",
        "training.max_seconds = none, not 2.0",
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12,32,64", [12, 32, 64]),
        ("[12]", [12]),
        ("3e-3", 3e-3),
        ("true", True),
        ("h1", "h1"),
        ("a=b", "a=b"),
        ("none", "none"),
    ],
)
def test_values_of_overrides(text, value):
    assert parse_override(f"training.some_key={text}") == ("training", "some_key", value)


@pytest.mark.parametrize("text", ["epochs=3", "training.epochs", ".epochs=3", "training.=3", "=3"])
def test_overrides_of_another_form_are_refused(text):
    with pytest.raises(spon.SponError, match=r"allowed: TABLE\.KEY=VALUE"):
        parse_override(text)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"trainin": {}}, "unknown setting 'trainin'; allowed: device, data, model, processor, training"),
        ({"training": 3}, "training = 3; allowed: a table"),
        ({"training": {"lr": 1.0}}, "unknown setting 'training.lr'; allowed: epochs, "),
        ({"training": {"epochs": 1.5}}, "training.epochs = 1.5; allowed: integer"),
        ({"training": {"epochs": True}}, "training.epochs = True; allowed: integer"),
        ({"training": {"compile": 1}}, "training.compile = 1; allowed: true or false"),
        ({"training": {"max_seconds": "long"}}, "training.max_seconds = 'long'; allowed: number or none"),
        ({"training": {"learning_rate": -1}}, "learning_rate = -1.0; allowed: > 0"),
        ({"training": {"warmup": 1.0}}, "warmup = 1.0; allowed: 0 <= warmup < 1"),
        ({"training": {"schedule": "step"}}, "schedule 'step'; allowed: cosine, linear"),
        ({"model": {"processor": "Wavelet"}}, "processor 'Wavelet'; allowed: "),
        ({"model": {"transfrom": "log"}}, "unknown setting 'model.transfrom'; allowed: processor, transform"),
        ({"processor": {"width": [3]}}, "unknown setting 'processor.width'; allowed: features, widths, "),
        ({"processor": {"widths": ["a"]}}, r"processor.widths = ['a']; allowed: list of integer"),
        ({"processor": {"widths": 3}}, "processor.widths = 3; allowed: list of integer"),
        ({"device": 0}, "device = 0; allowed: text"),
    ],
)
def test_mistakes_are_answered_in_one_line(tables, message):
    with pytest.raises(spon.SponError) as error:
        RunConfig.from_tables(tables)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_of_the_wrong_kind_are_converted_where_nothing_is_lost():
    config = RunConfig.from_tables({"training": {"learning_rate": 1, "max_seconds": "none"}})
    assert isinstance(config.training.learning_rate, float)
    assert config.training.max_seconds is None


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(spon.SponError, match="cannot read"):
        RunConfig.read(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("[training\n")
    with pytest.raises(spon.SponError, match="not TOML") as error:
        RunConfig.read(tmp_path / "bad.toml")
    assert "\n" not in str(error.value)
