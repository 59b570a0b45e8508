"""Recipes: what wins over what, what is refused, and that a run's config repeats it."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ard.commands import flags as options
from ard.commands.learn import DISTILL_DEFAULTS, QAT_DEFAULTS, TEACH_DEFAULTS
from ard.commands.learn_flags import DistillFlags, TeachFlags
from ard.learning.config import TrainConfig
from ard.learning.recipes import (
    build_config,
    find_recipe,
    merge,
    parse_sets,
    presets,
    read_recipe,
    setting_types,
    settings_of_card,
    write_config,
)
from ard.methods.parts.base import LossOptions
from ard.methods.registry import METHODS
from ard.models.architectures import build_model
from ard.models.weight_files import load_model
from ard.ranking.levels import RankingOptions
from edge_bench.core.errors import InputError
from edge_bench.core.spec import ModelCard

from ..commands.typed import ardx, sentence
from ..conftest import SmallModels

PUBLISHED = {
    f"{dataset}-{student}"
    for dataset in ("cifar10", "cifar100", "tiny-imagenet")
    for student in ("resnet18", "mobilenetv2")
}
BUDGETS = {"cpu-10min", "gpu-30min", "paper"}
BARE = {"dataset": "digits", "architecture": "resnet8:4", "method": "ard", "epsilon": 0.2}


def recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def config_of(path: Path) -> TrainConfig:
    return build_config(merge(DISTILL_DEFAULTS, read_recipe(path)))


def test_every_published_setting_and_every_budget_has_a_recipe() -> None:
    assert set(presets()) == PUBLISHED | BUDGETS


@pytest.mark.parametrize("name", sorted(PUBLISHED | BUDGETS))
def test_a_preset_becomes_a_config_of_either_command(name: str) -> None:
    layer = read_recipe(find_recipe(name))
    assert layer["description"]
    for defaults in (TEACH_DEFAULTS, DISTILL_DEFAULTS):
        bare = {"dataset": "digits", "architecture": "resnet8"}
        config = build_config(merge(bare, defaults, layer))
        assert config.method == defaults["method"]
        assert config.epsilon == 8 / 255
        build_model(config.architecture, 3, 10, torch.zeros(3), torch.ones(3))


def test_the_published_settings_are_one_protocol() -> None:
    protocol = read_recipe(find_recipe("paper"))
    assert (protocol["schedule"], protocol["milestones"]) == ("steps", (215, 260, 285))
    for name in PUBLISHED:
        dataset, _, student = name.rpartition("-")
        own = read_recipe(find_recipe(name))
        assert own["dataset"] == dataset
        assert own["architecture"].replace("_", "") == student
        same = own.keys() - {"dataset", "architecture", "description"}
        assert same == protocol.keys() - {"description"}
        assert {key: own[key] for key in same} == {key: protocol[key] for key in same}


def test_a_later_layer_wins_over_an_earlier_one(tmp_path: Path) -> None:
    layers = (
        BARE,
        read_recipe(recipe(tmp_path, "epochs = 7\nbatch_size = 32\nloss.ranking.k = 3\nseed = 4")),
        parse_sets(["batch_size=16", "loss.ranking.k=5", "loss.ranking.k=6"]),
        {"seed": 9},
    )
    config = build_config(merge(*layers))
    assert (config.epochs, config.batch_size, config.seed) == (7, 16, 9)
    assert config.loss == LossOptions(ranking=RankingOptions(k=6.0))
    assert config.learning_rate == TrainConfig.learning_rate
    assert config.step_size == 0.05


def test_epochs_given_later_win_over_minutes() -> None:
    assert merge({"minutes": 10.0}, {"epochs": 3}) == {"epochs": 3}
    assert merge({"epochs": 3}, {"minutes": 10.0})["minutes"] == 10.0


def test_epochs_and_minutes_from_one_place_are_refused(tmp_path: Path) -> None:
    path = recipe(tmp_path, "epochs = 3\nminutes = 0.2\n")
    with pytest.raises(InputError, match=r"toml: epochs 3 with minutes 0\.2: .*; give one of"):
        read_recipe(path)
    with pytest.raises(InputError, match=r"^--set epochs 3 with --set minutes 0\.2: the minutes"):
        parse_sets(["epochs=3", "minutes=0.2"])


def other(value: bool | int | float) -> bool | int | float:
    """Another value of the same type, for a round trip that cannot rest on a default."""
    if isinstance(value, bool):
        return not value
    return value + 3 if isinstance(value, int) else value * 0.7 + 0.01


def test_a_written_config_is_read_back_identical(tmp_path: Path) -> None:
    def changed(kind: Any, **given: Any) -> Any:
        numbers = {
            f.name: other(f.default)
            for f in fields(kind)
            if f.default is not MISSING and isinstance(f.default, bool | int | float)
        }
        return kind(**(numbers | given))

    ranking = changed(
        RankingOptions, agreement="spearman", space="logits", k_end=8.0, teacher_input="clean"
    )
    loss = changed(
        LossOptions, alpha=0.3, beta=1 / 3, temperature=4.0, anchor="ce", ranking=ranking
    )
    config = changed(
        TrainConfig,
        **(BARE | {"epsilon": 0.1 + 0.2, "step_size": 2 / 255}),
        inner="ce",
        schedule="steps",
        milestones=(2, 3),
        precision="bf16",
        loss=loss,
    )
    write_config(tmp_path / "config.toml", replace(config, data_sha256="a", teacher_sha256="b"))
    assert config_of(tmp_path / "config.toml") == config
    first, _, text = (tmp_path / "config.toml").read_text().partition("\n")
    assert first.startswith("# sha256 of all below: ")
    assert "sha256" not in text
    assert 'step_size = "2/255"' in text


def test_a_saved_recipe_that_was_edited_is_refused_until_its_first_line_is_taken_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.toml"
    config = TrainConfig(
        dataset="digits", architecture="resnet8", method="ard", epsilon=0.15, step_size=0.05
    )
    write_config(path, config)
    text = path.read_text(encoding="utf-8")
    edited = re.sub(r"(?m)^seed = .*$", "seed = 7", text)
    for torn in (edited, text[:-9], text[:120], text[:9]):
        path.write_text(torn, encoding="utf-8")
        with pytest.raises(InputError, match=r"config\.toml: expected "):
            read_recipe(path)
    path.write_text(edited.partition("\n")[2], encoding="utf-8")
    assert read_recipe(path)["seed"] == 7


def test_the_settings_are_the_fields_of_the_config() -> None:
    names = {f.name for f in fields(TrainConfig) if not f.name.endswith("_sha256")} - {"loss"}
    names |= {f"loss.{f.name}" for f in fields(LossOptions)} - {"loss.ranking"}
    names |= {f"loss.ranking.{f.name}" for f in fields(RankingOptions)}
    assert set(setting_types()) == names | {"description", "minutes"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("lerning_rate = 0.1", ["lerning_rate", "did you mean learning_rate"]),
        ("k = 3", ["did you mean loss.ranking.k"]),
        ("[loss.rankings]\nk = 3", ["loss.rankings.k", "did you mean loss.ranking.k"]),
        ("[learning_rate]\npeak = 0.1", ["learning_rate.peak", "did you mean learning_rate"]),
        ("[nonsense]", ["nonsense"]),
        ("loss = 3", ["a table", "loss."]),
        ("teacher_sha256 = 'abc'", ["teacher_sha256"]),
        ("epochs = 'ten'", ["epochs", "a whole number", "'ten'"]),
        ("epochs = 10.5", ["a whole number", "10.5"]),
        ("epochs = true", ["a whole number", "True"]),
        ("epochs = 99999999999999999999999", ["a number in it is too large"]),
        ("learning_rate = '0.1'", ["a number", "'0.1'"]),
        ("learning_rate = false", ["a number", "False"]),
        ("architecture = 18", ["architecture", "text", "18"]),
        ("nesterov = 1", ["true or false", "1"]),
        ("milestones = 215", ["milestones", "a list", "215"]),
        ("milestones = [215, '260']", ["milestones", "a whole number", "'260'"]),
        ("loss.ranking.hard_teacher = 'no'", ["loss.ranking.hard_teacher", "true or false"]),
        ("epsilon = 8", ["epsilon 8", "8/255"]),
        ("step_size = '2/'", ["step_size 2/", "fraction"]),
        ("epsilon = true", ["epsilon", "a number"]),
        ("minutes = 'ten'", ["minutes", "a number"]),
        ("minutes = 1e308", ["minutes 1e+308", "above 0 and up to 1,000,000"]),
        ("epochs 10", ["expected TOML", "line 1"]),
        ("\udcff", ["expected TOML"]),
        ("", ["empty"]),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_file_and_key(
    text: str, named: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert str(path) in str(caught.value)
    for part in named:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("epochs", "key=value"),
        ("epochs=", "key=value"),
        ("=3", "key=value"),
        ("epocs=3", "did you mean epochs"),
        ("epochs=three", "--set epochs: expected a whole number such as 5, came 'three'"),
        ("epsilon=8", "--set epsilon 8"),
        ("loss=3", "a table"),
    ],
)
def test_a_wrong_set_is_refused_with_its_key(assignment: str, named: str) -> None:
    with pytest.raises(InputError, match=re.escape(named)):
        parse_sets([assignment])


def test_the_value_of_set_is_toml_or_plain_text() -> None:
    layer = parse_sets(
        [
            "architecture=resnet8:32",
            "method = 'ard'",
            "epsilon=8/255",
            "step_size=0.01",
            "milestones=[2, 5]",
            "learning_rate=1",
            "nesterov=false",
            "loss={ranking={k=3, hard_teacher=true}}",
            "dataset=imagefolder:a=b",
        ]
    )
    assert layer == {
        "architecture": "resnet8:32",
        "method": "ard",
        "epsilon": 8 / 255,
        "step_size": 0.01,
        "milestones": (2, 5),
        "learning_rate": 1.0,
        "nesterov": False,
        "loss.ranking.k": 3.0,
        "loss.ranking.hard_teacher": True,
        "dataset": "imagefolder:a=b",
    }
    assert isinstance(layer["learning_rate"], float)


def test_a_recipe_is_found_by_name_or_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_recipe(find_recipe("cpu-10min"))["minutes"] == 10.0
    recipe(tmp_path, "epochs = 3")
    assert find_recipe("recipe.toml") == Path("recipe.toml")
    with pytest.raises(InputError, match="did you mean cpu-10min"):
        find_recipe("cpu-10mins")
    with pytest.raises(InputError, match="the presets are"):
        find_recipe("zzz")
    with pytest.raises(InputError, match=r"missing\.toml"):
        read_recipe(find_recipe("missing.toml"))


def test_momentum_and_seed_are_checked_before_torch_meets_them() -> None:
    for assignment in ("momentum=1.5", "momentum=0", "seed=-1", "seed=4294967296"):
        with pytest.raises(InputError, match=assignment.partition("=")[0]):
            build_config(merge(BARE, parse_sets([assignment])))


@pytest.mark.parametrize(
    ("flags", "defaults"), [(TeachFlags, TEACH_DEFAULTS), (DistillFlags, DISTILL_DEFAULTS)]
)
def test_help_says_the_default_that_is_in_force(flags: Any, defaults: dict[str, Any]) -> None:
    config: Any = build_config(BARE | defaults)
    told = 0
    for flag in fields(flags):
        if "key" not in flag.metadata or flag.metadata["key"] == "minutes":
            continue
        key, value = flag.metadata["key"], config
        assert key in setting_types()
        for name in key.split("."):
            value = getattr(value, name)
        said = re.fullmatch(r".*\. Default: (.+)\.", flag.metadata["option"].help)
        assert said, key
        text = said[1]
        if key in ("dataset", "architecture"):
            assert text == "the recipe's"
        elif key == "qat":
            assert text == QAT_DEFAULTS[key]
        elif value is None:
            assert text == ("none" if key == "unlabelled" else "the method's"), key
        elif isinstance(value, bool):
            assert text == ("yes" if value else "no"), key
        elif key == "epsilon":
            assert text == options.render_epsilon(value)
        elif key == "step_size":
            assert text == "epsilon / 4"
        elif isinstance(value, float):
            assert float(text) == value, key
        else:
            assert text == str(value), key
        told += 1
    assert told > 15
    method = next(f for f in fields(flags) if f.name == "method").metadata["option"].help
    for name, known in METHODS.items():
        if known.distils == (flags is DistillFlags):
            assert name in method


def test_a_run_takes_a_recipe_sets_and_flags_and_leaves_a_recipe_that_repeats_it(
    small_models: SmallModels, tmp_path: Path
) -> None:
    path = recipe(
        tmp_path,
        'dataset = "digits"\narchitecture = "resnet8:4"\nepsilon = "38/255"\ninner_steps = 1\n'
        "train_fraction = 0.2\n"
        'minutes = 600\nbatch_size = 64\nseed = 3\n[loss]\nanchor = "ce"\n[loss.ranking]\nk = 3\n'
        "hard_teacher = true\n",
    )
    teacher = ("--teacher", small_models.teacher.weights)
    ardx(
        *("distill", "--config", path, *teacher, "--out", tmp_path / "one"),
        *("--set", "loss.ranking.k=5", "--set", "batch_size=128", "--set", "momentum=0.8"),
        *("--epochs", "1", "--batch-size", "256", "--no-hard-teacher"),
    )
    _, card = load_model(tmp_path / "one" / "student.safetensors")
    made = config_of(tmp_path / "one" / "config.toml")
    assert (made.epsilon, made.seed, made.inner_steps) == (38 / 255, 3, 1)
    assert (made.loss.anchor, made.loss.ranking.k, made.momentum) == ("ce", 5.0, 0.8)
    assert (made.epochs, made.batch_size, made.method) == (1, 256, "ard")
    assert not made.loss.ranking.hard_teacher
    identity = {key: value for key, value in card.recipe.items() if key.endswith("_sha256")}
    assert identity["teacher_sha256"]
    assert card.recipe == as_card(replace(made, **identity)) | {
        "validation": card.recipe["validation"]
    }
    again = (*teacher, "--out", tmp_path / "two", "--config", tmp_path / "one" / "config.toml")
    ardx("distill", *again)
    assert config_of(tmp_path / "two" / "config.toml") == made
    for name in ("config.toml", "student.safetensors"):
        one, two = ((tmp_path / run / name).read_bytes() for run in ("one", "two"))
        assert one == two, name


def as_card(config: Any) -> dict[str, Any]:
    """The config as JSON holds it."""
    plain = {f.name: getattr(config, f.name) for f in fields(config)}
    tables = {name: as_card(value) for name, value in plain.items() if is_dataclass(value)}
    return dict(json.loads(json.dumps(plain | tables)))


def test_a_run_does_not_overwrite_a_recipe_that_lies_in_its_folder(
    small_models: SmallModels, tmp_path: Path
) -> None:
    mine = tmp_path / "config.toml"
    mine.write_text('# mine\ndataset = "digits"\narchitecture = "resnet8:4"\n')
    error = sentence(
        *("distill", "--config", mine, "--teacher", small_models.teacher.weights),
        *("--out", tmp_path),
    )
    assert "config.toml exists already" in error
    assert mine.read_text().startswith("# mine")


def test_a_card_gives_the_settings_that_a_command_can_take() -> None:
    made = TrainConfig(
        dataset="digits",
        architecture="resnet8:4",
        method="trades",
        epsilon=0.2,
        step_size=0.05,
        batch_size=32,
        epoch_steps=1,
        validate_every=8,
        loss=LossOptions(beta=3.0),
    )
    recipe = as_card(made) | {"validation": {"epoch": 1}, "gone": 1}
    card = ModelCard(
        architecture="resnet8:4", dataset="digits", classes=10, input_shape=(1, 8, 8), recipe=recipe
    )
    found = settings_of_card(card, distils=True)
    assert (found["batch_size"], found["epsilon"], found["loss.beta"]) == (32, 0.2, 3.0)
    # Another method has to be found, and another budget brings another step.
    assert not {"method", "step_size", "validation.epoch", "gone"} & found.keys()
    # What a time planned for that run is not planned for another.
    assert not {"epoch_steps", "validate_every"} & found.keys()
    assert build_config({"method": "ard"} | found | {"epsilon": 0.4}).step_size == 0.1
    assert settings_of_card(card, distils=False)["method"] == "trades"


def test_teach_takes_a_recipe_too(tmp_path: Path) -> None:
    path = recipe(tmp_path, 'dataset = "digits"\nmethod = "natural"\nepochs = 1\n')
    ardx("teach", "--config", path, "--arch", "resnet8:4", "--out", tmp_path / "teacher")
    made = config_of(tmp_path / "teacher" / "config.toml")
    assert (made.method, made.architecture, made.epochs) == ("natural", "resnet8:4", 1)
    error = sentence("distill", "--config", path, "--teacher", "t", "--out", tmp_path / "d")
    assert "give --student" in error


def test_recipes_lists_the_presets() -> None:
    printed = ardx("recipes")
    assert [line.split()[0] for line in printed.splitlines()] == sorted(presets())
    told = json.loads(ardx("recipes", "--json"))
    assert told["cpu-10min"]["settings"]["minutes"] == 10
    assert Path(told["paper"]["file"]).is_file()


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(b"\xef\xbb\xbfepochs = 7\n")
    assert read_recipe(path) == {"epochs": 7}


@pytest.mark.parametrize(
    "text",
    [
        "v = " + "[" * 2000 + "]" * 2000,
        "v = " + "{a=" * 900 + "1" + "}" * 900,
        "[" + ".".join("a" * 2000) + "]",
        "epochs = " + "9" * 5000,
    ],
)
def test_a_recipe_of_great_depth_or_numbers_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"r\.toml: .*; mend it there"):
        read_recipe(tmp_path / "r.toml")


def test_settings_beyond_float32_are_refused() -> None:
    for key in ("learning_rate", "weight_decay", "clip_norm", "loss.beta"):
        with pytest.raises(InputError, match=rf"{key} 1e\+308: beyond what float32 holds"):
            build_config(BARE | DISTILL_DEFAULTS | {key: 1e308})
