"""Data sets in memory: what is loaded, converted, divided, ordered and augmented."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from nasdsl.runtime.standalone.basics import Mistake, WrongUse
from nasdsl.runtime.standalone.data import Data, Split, Stream, divide, load_data, prepare

GREY8 = ("image", 1, 8, 8)


def digits(declared: tuple[Any, ...] = GREY8) -> Data:
    return load_data("digits", declared, 10)


def pictures(folder: Path, classes: tuple[str, ...], count: int, size: tuple[int, int] = (12, 10)) -> None:
    """Random PNGs, one shade a class."""
    random = numpy.random.RandomState(len(folder.parts))
    for shade, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = random.randint(0, 40, (size[1], size[0], 3)) + 60 * shade
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{i:03}.png")


# --- loading -------------------------------------------------------------------


def test_digits_are_divided_by_class_and_always_alike() -> None:
    first, second = digits(), digits()
    assert torch.equal(first.test.examples, second.test.examples)
    assert (len(first.train), len(first.test)) == (1442, 355)
    counts = torch.bincount(first.test.labels)
    assert int(counts.min()) >= 34
    assert int(counts.max()) <= 36
    assert not first.flips


def test_prepared_training_examples_have_mean_zero_and_deviation_one(tmp_path: Path) -> None:
    pictures(tmp_path / "train", ("a", "b"), 30)
    pictures(tmp_path / "test", ("a", "b"), 5)
    folder = load_data(f"imagefolder:{tmp_path}", ("image", 3, 10, 12), 2)
    assert folder.train.examples.dtype == torch.uint8
    for data in (digits(), folder):
        x = prepare(data.train.examples, data)
        torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(x.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(x.shape[1]), atol=1e-3, rtol=0)


def users_own(monkeypatch: pytest.MonkeyPatch, train: list[Any], test: list[Any]) -> str:
    module = ModuleType("in_memory")
    module.make = lambda: (train, test)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "in_memory", module)
    return "in_memory:make"


def test_a_feature_that_is_constant_in_training_does_not_explode_in_the_test_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = [(torch.tensor([float(i), 0.3]), i % 2) for i in range(8)]
    name = users_own(monkeypatch, train, [(torch.tensor([1.0, 1.3]), 0)])
    data = load_data(name, ("vector", 2), 2)
    assert prepare(data.test.examples, data)[0, 1].item() == pytest.approx(1.0)


def test_images_are_flattened_for_a_network_that_reads_vectors() -> None:
    data = digits(("vector", 64))
    assert data.train.examples.shape == (1442, 64)
    assert data.notes == ("flattened (1, 8, 8) to a vector of 64",)


def test_other_inputs_are_converted_and_said() -> None:
    data = digits(("image", 3, 16, 16))
    assert data.train.examples.shape == (1442, 3, 16, 16)
    assert data.notes == ("images resized from 8 x 8 to 16 x 16", "grey images repeated to 3 channels")
    assert torch.equal(data.train.examples[:, 0], data.train.examples[:, 2])
    assert digits().notes == ()


def test_resizing_keeps_a_constant_image_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    same = [(torch.full((3, 6, 6), 77, dtype=torch.uint8), i % 2) for i in range(4)]
    data = load_data(users_own(monkeypatch, same, same), ("image", 3, 9, 4), 2)
    assert data.train.examples.dtype == torch.uint8
    assert data.train.examples.unique().tolist() == [77]


@pytest.mark.parametrize(("label", "words"), [(-1, "labels count from 0"), (4, "5 classes")])
def test_labels_that_do_not_fit_are_a_mistake(
    monkeypatch: pytest.MonkeyPatch, label: int, words: str
) -> None:
    pairs = [(torch.zeros(2), 1), (torch.ones(2), label)]
    with pytest.raises(Mistake, match=words):
        load_data(users_own(monkeypatch, pairs, pairs), ("vector", 2), 2)


def test_an_empty_data_set_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Mistake, match="1 training and 0 test"):
        load_data(users_own(monkeypatch, [(torch.zeros(2), 0)], []), ("vector", 2), 1)


def test_another_number_of_classes_names_the_command_that_recompiles() -> None:
    with pytest.raises(Mistake, match=r"10 classes .* compiled for 7; .*--param classes=10"):
        load_data("digits", GREY8, 7)


@pytest.mark.parametrize("name", ["digit", "imagenet", ""])
def test_an_unknown_name_is_a_wrong_command_line(name: str) -> None:
    with pytest.raises(WrongUse, match="digits, cifar10, imagefolder:PATH or pkg:function"):
        load_data(name, GREY8, 10)


@pytest.mark.parametrize(
    ("name", "declared", "words"),
    [
        ("imagefolder:/nowhere/at/all", GREY8, "no such folder"),
        ("imagefolder:.", ("vector", 4), "not an image"),
        ("no_such_package:make", GREY8, "no_such_package"),
        ("math:no_such_function", GREY8, "no_such_function"),
        ("os:path", GREY8, "os:path: this is a module, not a function"),
        ("time:time", GREY8, "must return"),
        ("digits", ("vector", 63), "64|8, 8"),
        ("digits", ("sequence", 8, 8), "reads sequence"),
    ],
)
def test_what_does_not_fit_is_a_mistake(name: str, declared: tuple[Any, ...], words: str) -> None:
    with pytest.raises(Mistake, match=words):
        load_data(name, declared, 10)


def test_a_folder_of_images(tmp_path: Path) -> None:
    pictures(tmp_path / "train", ("a", "b", "c"), 4)
    pictures(tmp_path / "val", ("a", "b", "c"), 2)
    name = f"imagefolder:{tmp_path}"
    data = load_data(name, ("image", 3, 10, 12), 3)
    assert (len(data.train), len(data.test)) == (12, 6)
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    with Image.open(tmp_path / "train" / "b" / "001.png") as image:
        assert torch.equal(data.train.examples[5], torch.from_numpy(numpy.array(image)).permute(2, 0, 1))
    assert load_data(name, ("image", 1, 10, 12), 3).train.examples.shape == (12, 1, 10, 12)
    smaller = load_data(name, ("image", 3, 5, 5), 3)
    assert smaller.train.examples.shape == (12, 3, 5, 5)
    assert any("resized to 5 x 5" in note for note in smaller.notes)
    many = load_data(name, ("image", 3, 10, 12), 3, workers=4)
    assert torch.equal(many.train.examples, data.train.examples)


def test_a_folder_without_a_test_set_gives_up_a_fifth_of_every_class(tmp_path: Path) -> None:
    pictures(tmp_path / "x", ("a", "b"), 10)
    pictures(tmp_path / "y" / "train", ("a", "b"), 10)
    for path in (tmp_path / "x", tmp_path / "y"):
        first, second = (load_data(f"imagefolder:{path}", ("image", 3, 10, 12), 2) for _ in range(2))
        assert torch.bincount(first.test.labels).tolist() == [2, 2]
        assert torch.bincount(first.train.labels).tolist() == [8, 8]
        assert torch.equal(first.test.examples, second.test.examples)
        assert any("fixed fifth" in note for note in first.notes)
        everything = torch.cat([first.train.examples, first.test.examples]).flatten(1)
        assert len(everything.unique(dim=0)) == 20


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    pictures(tmp_path, ("a", "b"), 3)
    (tmp_path / "a" / "001.png").write_bytes(b"no image")
    with pytest.raises(Mistake, match=r"a/001\.png cannot be read"):
        load_data(f"imagefolder:{tmp_path}", ("image", 3, 10, 12), 2)


def test_train_and_test_must_have_the_same_classes(tmp_path: Path) -> None:
    pictures(tmp_path / "train", ("a", "b"), 3)
    pictures(tmp_path / "test", ("a", "c"), 3)
    with pytest.raises(Mistake, match="different classes"):
        load_data(f"imagefolder:{tmp_path}", ("image", 3, 10, 12), 2)


def test_real_jpegs(tmp_path: Path, shared: Path) -> None:
    archive = shared / "data" / "cifar10-jpeg.tar.xz"
    if not archive.exists():
        pytest.skip("the JPEGs of CIFAR-10 are absent")
    classes: set[str] = set()
    with tarfile.open(archive) as tar:
        taken: dict[str, int] = {}
        for member in tar:
            folder = str(Path(member.name).parent)
            if member.isfile() and taken.get(folder, 0) < 3:
                taken[folder] = taken.get(folder, 0) + 1
                tar.extract(member, tmp_path, filter="data")
                classes.add(Path(folder).name)
            if len(classes) == 2 and min(taken.values()) == 3:
                break
    root = next(p for p in (tmp_path, *tmp_path.iterdir()) if any(p.rglob("*.jpg")))
    part = next(p for p in root.iterdir() if p.is_dir())
    data = load_data(f"imagefolder:{part}", ("image", 3, 32, 32), 2)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert 0.2 < float(data.mean.mean()) < 0.8


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "users_own.py").write_text(
        "import torch\n"
        "def make():\n"
        "    data = [(torch.arange(6.0).view(1, 6)[0] + i, i % 3) for i in range(9)]\n"
        "    return data[:6], data[6:]\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield "users_own:make"
    sys.modules.pop("users_own", None)


def test_a_users_own_function_is_found_in_the_working_directory(user_module: str) -> None:
    data = load_data(user_module, ("vector", 6), 3)
    assert (len(data.train), len(data.test)) == (6, 3)
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2]


# --- division and order ----------------------------------------------------------


def numbered(count: int, shape: tuple[int, ...] = (1, 4, 4)) -> Data:
    """Example i is the number i + 1 everywhere; nothing is normalised away."""
    examples = torch.ones(count, *shape) * torch.arange(1.0, count + 1).view(-1, *[1] * len(shape))
    split = Split(examples, torch.arange(count))
    return Data(split, split, torch.zeros(()), torch.ones(()), True, ())


@pytest.mark.parametrize("fraction", [0.5, 0.3])
def test_the_parts_of_a_training_set_are_disjoint_and_together_all(fraction: float) -> None:
    split = numbered(50).train
    first, second = divide(split, fraction, seed=3)
    assert len(first) == round(50 * fraction)
    assert sorted(first.labels.tolist() + second.labels.tolist()) == list(range(50))
    assert torch.equal(divide(split, fraction, seed=3)[0].labels, first.labels)
    assert not torch.equal(divide(split, fraction, seed=4)[0].labels, first.labels)
    assert torch.equal(first.examples[:, 0, 0, 0].long() - 1, first.labels)


def test_a_training_set_of_one_cannot_be_divided() -> None:
    with pytest.raises(Mistake, match="cannot be divided"):
        divide(numbered(1).train, 0.5, 0)


def stream(data: Data, size: int = 4, seed: int = 0, name: str = "train", **flags: Any) -> Stream:
    return Stream(data.train, data, size, seed, name, **flags)


def test_every_pass_holds_every_example_once_in_another_order() -> None:
    made = stream(numbered(12))
    passes = [torch.cat([made.next()[1] for _ in range(made.batches)]).tolist() for _ in range(3)]
    assert all(sorted(each) == list(range(12)) for each in passes)
    assert len({tuple(each) for each in passes}) == 3


def test_seed_and_name_decide_the_order() -> None:
    def order(seed: int, name: str) -> list[int]:
        made = stream(numbered(40), seed=seed, name=name)
        return [int(i) for _ in range(10) for i in made.next()[1]]

    assert order(0, "train") == order(0, "train")
    assert order(0, "train") != order(1, "train")
    assert order(0, "train") != order(0, "valid")


@pytest.mark.parametrize("stop", [1, 4, 7, 11])
def test_a_stream_set_to_a_position_continues_exactly(stop: int) -> None:
    data = digits()
    whole, first, second = (stream(data, 500, cutout=2, pad=2) for _ in range(3))
    expected = [whole.next() for _ in range(stop + 3)]
    for _ in range(stop):
        first.next()
    second.position = first.position
    for x, y in expected[stop:]:
        found = second.next()
        assert torch.equal(found[0], x)
        assert torch.equal(found[1], y)


def test_the_random_state_of_torch_is_left_alone() -> None:
    made = stream(digits(), cutout=2)
    before = torch.get_rng_state()
    for _ in range(3):
        made.next()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_larger_than_the_set_is_the_set() -> None:
    made = stream(numbered(5), size=64)
    assert made.batches == 1
    assert sorted(made.next()[1].tolist()) == list(range(5))


def test_peeking_moves_nothing_and_augments_nothing() -> None:
    made = stream(numbered(12), cutout=2)
    x, y = made.peek(1)
    assert y.tolist() == [4, 5, 6, 7]
    assert torch.equal(x, made.split.examples[4:8])
    assert made.position == 0


# --- augmentation ------------------------------------------------------------------


def textured(count: int = 64, dtype: torch.dtype = torch.float32) -> Data:
    examples = torch.randint(1, 255, (count, 3, 6, 5), generator=torch.Generator().manual_seed(1)).to(dtype)
    split = Split(examples, torch.arange(count))
    return Data(split, split, torch.zeros(()), torch.ones(()), True, ())


def batches(data: Data, count: int, **flags: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of an augmented image and the image it was made from."""
    made = stream(data, 16, **{"pad": 0, "flip": False, **flags})
    for _ in range(count):
        x, y = made.next()
        originals = prepare(data.train.examples[y], data)
        yield from zip(x, originals, strict=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_crop_is_a_window_of_the_padded_image(dtype: torch.dtype) -> None:
    seen = set()
    for x, original in batches(textured(dtype=dtype), 12, pad=1):
        padded = torch.nn.functional.pad(original, (1, 1, 1, 1))
        windows = {(r, c): padded[:, r : r + 6, c : c + 5] for r in range(3) for c in range(3)}
        fitting = [offset for offset, window in windows.items() if torch.equal(window, x)]
        assert len(fitting) == 1
        seen.update(fitting)
    assert len(seen) == 9


def test_padding_is_black_before_normalisation() -> None:
    split = Split(torch.ones(16, 1, 4, 4), torch.arange(16))
    data = Data(split, split, torch.full((1, 1, 1), 0.5), torch.full((1, 1, 1), 0.25), True, ())
    assert stream(data, 16, pad=2).next()[0].unique().tolist() == [-2.0, 2.0]


def test_half_of_the_images_are_flipped() -> None:
    pairs = list(batches(textured(), 40, flip=True))
    kept = sum(torch.equal(x, original) for x, original in pairs)
    flipped = sum(torch.equal(x, original.flip(2)) for x, original in pairs)
    assert kept + flipped == len(pairs)
    assert 0.4 < flipped / len(pairs) < 0.6


def test_digits_are_never_flipped() -> None:
    made = stream(digits(), 256, pad=0, flip=True)
    plain = stream(digits(), 256, augment=False)
    assert torch.equal(made.next()[0], plain.next()[0])


@pytest.mark.parametrize("side", [2, 3, 4])
def test_cutout_is_one_square_that_borders_may_cut(side: int) -> None:
    areas = set()
    for x, original in batches(textured(), 20, cutout=side):
        hole = (x == 0).all(0)
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        height, width = len(rows), len(columns)
        assert int(hole.sum()) == height * width
        assert 0 < height <= side
        assert 0 < width <= side
        assert torch.equal(torch.where(hole, torch.zeros(()), original), x)
        areas.add(height * width)
    assert max(areas) == side * side
    assert min(areas) < side * side


def test_without_augmentation_nothing_is_drawn() -> None:
    for x, original in batches(textured(), 3, augment=False, pad=3, flip=True, cutout=3):
        assert torch.equal(x, original)


def test_vectors_are_not_augmented() -> None:
    data = numbered(8, (5,))
    x, y = stream(data, 8, pad=2, flip=True, cutout=2).next()
    assert torch.equal(x, data.train.examples[y])
