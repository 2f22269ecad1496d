"""Image folders that are streamed, and timm's augmentation: the laws of every stream hold for them."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image
from torch import Tensor

from nasdsl.runtime.standalone import augmentation, basics, data, pictures
from nasdsl.runtime.standalone.basics import Mistake
from nasdsl.runtime.standalone.data import Data, Split, Stream, divide, load_data, open_stream
from nasdsl.runtime.standalone.pictures import Pictures, random_window
from nasdsl.runtime.standalone.training import evaluate
from tests.runtime.test_training import CONFIG, run, script

__all__ = ["script"]

INPUT = ("image", 3, 24, 24)
Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 JPEGs of different sizes for training and 12 to test, one shade a class."""
    random_state = numpy.random.RandomState(0)
    root = tmp_path_factory.mktemp("jpegs")
    for part, count in (("train", 20), ("val", 6)):
        for shade, label in enumerate(("cat", "dog")):
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                width, height = random_state.randint(20, 60, 2)
                coarse = random_state.randint(0, 150, (5, 6, 3)) + 100 * shade
                image = Image.fromarray(coarse.astype("uint8")).resize((width, height))
                image.save(root / part / label / f"{i:02}.jpg", quality=95)
    return root


def loaded(folder: Path, loader: str = "stream", workers: int = 0, **more: Any) -> Data:
    return load_data(
        f"imagefolder:{folder}", INPUT, 2, workers=max(workers, loader == "memory"), loader=loader, **more
    )


def opened(found: Data, size: int = 6, name: str = "train", seed: int = 0, **settings: Any) -> Stream:
    return open_stream(found.train, found, size, seed, name, **settings)


def taken(stream: Stream, count: int) -> list[Batch]:
    return [stream.next() for _ in range(count)]


def same(first: list[Batch], second: list[Batch]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(x, v) and torch.equal(y, w) for (x, y), (v, w) in pairs)


EVERYTHING = {"randaugment": "rand-m9-mstd0.5", "erasing": 0.5, "cutout": 4}


# --- laws of both loaders ------------------------------------------------------------


@pytest.fixture(params=["memory", "stream"])
def either(request: pytest.FixtureRequest, folder: Path) -> Data:
    return loaded(folder, request.param)


@pytest.mark.parametrize("settings", [{}, EVERYTHING, {"augment": False}])
def test_seed_and_name_decide_every_batch(either: Data, settings: dict[str, Any]) -> None:
    first = taken(opened(either, **settings), 8)
    assert same(first, taken(opened(either, **settings), 8))
    assert not same(first, taken(opened(either, seed=1, **settings), 8))
    assert not same(first, taken(opened(either, name="valid", **settings), 8))
    assert first[0][0].shape == (6, 3, 24, 24)
    if not settings.get("cutout"):
        assert first[0][0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("stop", [1, 6, 9])
@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_a_stream_set_to_a_position_continues_exactly(
    either: Data, stop: int, settings: dict[str, Any]
) -> None:
    whole = taken(opened(either, **settings), stop + 8)
    resumed = opened(either, **settings)
    resumed.next()
    resumed.position = stop
    assert same(taken(resumed, 8), whole[stop:])


def test_a_pass_holds_every_image_once_but_a_last_smaller_batch(either: Data) -> None:
    stream = opened(either, augment=False)
    assert stream.batches == 6
    seen = torch.cat([x for x, _ in taken(stream, 6)]).flatten(1)
    assert len(seen.unique(dim=0)) == 36


def test_labels_belong_to_their_images(either: Data) -> None:
    for augment in (False, True):
        for x, y in taken(opened(either, augment=augment, pad=0), 6):
            assert torch.equal(x.mean((1, 2, 3)) > 0, y == 1)


def test_the_parts_are_disjoint_and_the_same_files_whatever_the_loader(folder: Path) -> None:
    found = [divide(loaded(folder, name).train, 0.7, seed=3) for name in ("memory", "stream")]
    for i in (0, 1):
        assert torch.equal(found[0][i].labels, found[1][i].labels)
    first, second = (part.examples for part in found[1])
    assert isinstance(first, Pictures)
    assert isinstance(second, Pictures)
    assert (len(first), len(second)) == (28, 12)
    assert len({*first.files.tolist(), *second.files.tolist()}) == 40
    assert torch.equal(second[:3], second.take(torch.arange(3))[:])


def test_peeking_moves_nothing_and_augments_nothing(either: Data) -> None:
    stream, untouched = opened(either, **EVERYTHING), opened(either, **EVERYTHING)
    first = stream.next()
    looks = [stream.peek(1), stream.peek(1)]
    assert same(looks[:1], looks[1:])
    assert stream.position == 1
    assert same([first, stream.next()], taken(untouched, 2))
    assert torch.equal(looks[0][1], stream.split.labels[6:12])


def test_all_random_states_are_left_alone(either: Data) -> None:
    before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state()
    taken(opened(either, **EVERYTHING), 3)
    assert random.getstate() == before[0]
    assert numpy.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_network_is_evaluated_in_parts(either: Data) -> None:
    class Bright(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            bright = x.mean((1, 2, 3))
            return torch.stack([-bright, bright], 1)

    assert evaluate(Bright(), either, "fp32", batch=5) == (1.0, 12)


# --- streams of files -------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_the_number_of_workers_changes_no_batch(folder: Path, settings: dict[str, Any]) -> None:
    none, one, two = (taken(opened(loaded(folder, workers=n), **settings), 8) for n in (0, 1, 2))
    assert same(none, one)
    assert same(none, two)


def test_evaluation_sees_what_torchvision_makes(folder: Path) -> None:
    basics.ensure_torchvision()
    from torchvision.transforms import v2

    for name, mode in (
        ("bilinear", v2.InterpolationMode.BILINEAR),
        ("bicubic", v2.InterpolationMode.BICUBIC),
    ):
        found = loaded(folder, interpolation=name).test.examples
        made = v2.Compose([v2.Resize(round(24 * 256 / 224), mode), v2.CenterCrop(24), v2.PILToTensor()])
        for index in (0, 7):
            with Image.open(os.fsdecode(found.files[index])) as image:
                assert torch.equal(found[index : index + 1][0], made(image.convert("RGB")))


def test_without_augmentation_training_sees_what_evaluation_sees(folder: Path) -> None:
    found = loaded(folder)
    stream = opened(found, 40, augment=False)
    made = data.prepare(found.train.examples[:], found)
    x, _ = stream.next()
    assert torch.equal(torch.cat([x, made]).flatten(1).unique(dim=0), made.flatten(1).unique(dim=0))


def test_an_image_is_augmented_alike_in_batches_of_any_size(folder: Path) -> None:
    found = loaded(folder)
    whole, parts = (
        torch.cat(
            [x for x, _ in taken(opened(found, size, **{**EVERYTHING, "erasing": 0.0, "cutout": 0}), count)]
        )
        for size, count in ((40, 1), (8, 5))
    )
    assert torch.equal(whole, parts)


def test_windows_are_those_of_random_resized_crop() -> None:
    draw = random.Random(0)
    shares, ratios = [], []
    for _ in range(3000):
        top, left, height, width = random_window((120, 90), draw)
        assert 0 <= top <= 90 - height
        assert 0 <= left <= 120 - width
        shares.append(height * width / (120 * 90))
        ratios.append(width / height)
    assert 0.07 < min(shares) < 0.1
    assert 0.9 < max(shares) <= 1
    assert 0.72 < min(ratios) < 0.78
    assert 1.28 < max(ratios) < 1.37
    assert random_window((100, 2), draw) == (0, 48, 2, 3)  # nothing fits: the middle, at most 4/3 wide


@pytest.mark.parametrize("name", ["flip", "interpolation"])
def test_flips_and_interpolation_change_the_batch(folder: Path, name: str) -> None:
    changed = {"flip": {"flip": False}, "interpolation": {}}[name]
    scaled = "bicubic" if name == "interpolation" else "bilinear"
    one = taken(opened(loaded(folder, interpolation="bilinear")), 2)
    assert not same(one, taken(opened(loaded(folder, interpolation=scaled), **changed), 2))


def test_random_interpolation_is_one_or_the_other(folder: Path) -> None:
    made = [opened(loaded(folder, interpolation=n), flip=False) for n in ("bilinear", "bicubic", "random")]
    first, second, drawn = (s._read(torch.Generator())[0] for s in made)
    kinds = {(torch.equal(x, a), torch.equal(x, b)) for x, a, b in zip(drawn, first, second, strict=True)}
    assert kinds == {(True, False), (False, True)}


def test_auto_streams_what_memory_does_not_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 52 * 3 * 24 * 24
    monkeypatch.setattr(data, "machine_memory", lambda: int(size / pictures.MEMORY_SHARE) + 1)
    assert loaded(folder, "auto", 1).loader == "memory"
    monkeypatch.setattr(data, "machine_memory", lambda: int(size / pictures.MEMORY_SHARE) - 1)
    found = loaded(folder, "auto", 1)
    assert "52 images of 24 x 24 (0.0 GiB) are more than 40% of the memory" in found.notes[0]
    assert loaded(folder, "memory").loader == "memory"
    monkeypatch.setattr(data, "machine_memory", lambda: size - 1)
    with pytest.raises(Mistake, match="--set loader=stream"):
        loaded(folder, "memory")


def test_the_statistics_are_those_of_a_fixed_sample(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = loaded(folder)
    everything = whole.train.examples[:].float() / 255
    torch.testing.assert_close(whole.mean.flatten(), everything.mean((0, 2, 3)))
    monkeypatch.setattr(pictures, "STATISTICS_IMAGES", 10)
    first, second = loaded(folder), loaded(folder)
    assert torch.equal(first.mean, second.mean)
    assert not torch.equal(first.mean, whole.mean)
    assert first.notes[-1] == "mean and deviation are those of 10 of the 40 training images"


def test_what_evaluation_decoded_is_kept_up_to_a_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = loaded(folder).test.examples
    assert examples[:4] is examples[:4]
    monkeypatch.setattr(pictures, "KEPT_BYTES", 0)
    other = loaded(folder).test.examples
    assert other[:4] is not other[:4]
    assert torch.equal(other[:4], examples[:4])


def test_a_folder_without_a_test_set_is_divided_as_in_memory(folder: Path) -> None:
    memory, stream = (loaded(folder / "train", name) for name in ("memory", "stream"))
    assert torch.equal(memory.test.labels, stream.test.labels)
    assert (len(stream.train), len(stream.test)) == (32, 8)
    assert any("fixed fifth" in note for note in stream.notes)


def test_grey_images_are_streamed_too(folder: Path) -> None:
    found = load_data(f"imagefolder:{folder}", ("image", 1, 24, 24), 2, workers=1, loader="stream")
    assert opened(found, **EVERYTHING).next()[0].shape == (6, 1, 24, 24)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_named(
    folder: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "train" / "dog" / "07.jpg").write_bytes(b"no image")
    monkeypatch.setattr(pictures, "STATISTICS_IMAGES", 1)
    found = loaded(tmp_path / "copy", workers=workers)
    with pytest.raises(Mistake, match=r"^\S+dog/07\.jpg cannot be read: [^\n]*$"):
        taken(opened(found, 40), 1)


def test_a_program_ends_while_workers_are_ahead_of_it(folder: Path, root: Path) -> None:
    text = f"""
from nasdsl.runtime.standalone.data import load_data, open_stream
found = load_data("imagefolder:{folder}", {INPUT}, 2, workers=1, loader="stream")
stream = open_stream(found.train, found, 6, 0, "train")
stream.next()
"""
    done = subprocess.run(
        [sys.executable, "-c", text], check=False, cwd=root, timeout=100, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_only_folders_are_streamed() -> None:
    with pytest.raises(Mistake, match="loader=stream is for imagefolder:PATH; digits is in memory"):
        load_data("digits", ("image", 1, 8, 8), 10, loader="stream")


def test_random_interpolation_is_refused_in_memory(folder: Path) -> None:
    with pytest.raises(Mistake, match="--set loader=stream"):
        loaded(folder, "memory", interpolation="random")
    first, second = (
        loaded(folder, "memory", interpolation=n).train.examples for n in ("bilinear", "bicubic")
    )
    assert not torch.equal(first, second)


# --- timm's augmentation --------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"randaugment": "rand-m9-mstd0.5"}, {"erasing": 0.6}])
def test_it_changes_the_batch_and_off_does_not(either: Data, settings: dict[str, Any]) -> None:
    plain = taken(opened(either), 3)
    assert same(plain, taken(opened(either, randaugment="off", erasing=0.0), 3))
    changed = taken(opened(either, **settings), 3)
    assert not same(plain, changed)
    assert all(torch.equal(y, w) for (_, y), (_, w) in zip(plain, changed, strict=True))
    images = zip(torch.cat([x for x, _ in plain]), torch.cat([x for x, _ in changed]), strict=True)
    untouched = [torch.equal(a, b) for a, b in images]
    assert 0 < sum(untouched) < len(untouched)


def test_erasing_puts_noise_into_one_rectangle(either: Data) -> None:
    plain, erased = opened(either, 40), opened(either, 40, erasing=1.0)
    shares, noise = [], []
    for x, v in zip(plain.next()[0], erased.next()[0], strict=True):
        hole = (x != v).any(0)
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        box = v[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert int(hole.sum()) == box[0].numel()
        shares.append(box[0].numel() / hole.numel())
        noise.append(box.flatten())
    assert min(shares) > 0.01
    assert max(shares) < 0.37
    values = torch.cat(noise)
    assert abs(float(values.mean())) < 0.05
    assert abs(float(values.std()) - 1) < 0.05


def test_randaugment_is_timms(folder: Path) -> None:
    found = loaded(folder, "memory")
    plain = opened(found, pad=0, flip=False)
    changed = opened(found, pad=0, flip=False, randaugment="rand-m5-n1-mstd0.5")
    (x, _), (v, _) = plain._read(torch.Generator()), changed._read(torch.Generator())
    from timm.data.auto_augment import rand_augment_transform

    colour = tuple(round(255 * m) for m in found.mean.flatten().tolist())
    made = rand_augment_transform(
        "rand-m5-n1-mstd0.5",
        {"translate_const": 10, "img_mean": colour, "interpolation": Image.Resampling.BILINEAR},
    )
    for i in range(6):
        with augmentation.drawing_from(basics.stable_seed(0, "train", "randaugment", 0, i)):
            expected = made(Image.fromarray(x[i].permute(1, 2, 0).numpy()))
        assert torch.equal(v[i], augmentation.as_bytes(expected))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"randaugment": "m9"}, r"randaugment=m9: timm cannot read that.*rand-m9-mstd0\.5"),
        ({"randaugment": "rand-q3"}, "timm cannot read that"),
        ({"randaugment": "rand-m9", "augment": False}, "augment=false"),
        ({"erasing": 0.2, "augment": False}, "erasing=0.2 .*augment=false"),
    ],
)
def test_what_cannot_be_done_is_a_mistake(either: Data, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(Mistake, match=words):
        opened(either, **settings)


def test_vectors_and_floats_are_refused() -> None:
    vectors = Split(torch.ones(8, 4), torch.zeros(8, dtype=torch.int64))
    found = Data(vectors, vectors, torch.zeros(4), torch.ones(4), False, ())
    with pytest.raises(Mistake, match="is of images; these are vectors"):
        opened(found, erasing=0.2)
    with pytest.raises(Mistake, match="images of bytes; these are floats"):
        opened(load_data("digits", ("image", 1, 8, 8), 10), randaugment="rand-m9")


@pytest.mark.parametrize("settings", [{"randaugment": "rand-m9"}, {"erasing": 0.2}])
def test_without_timm_the_cure_is_named(
    either: Data, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "timm"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(Mistake, match="pip install timm"):
        opened(either, **settings)


# --- retrain.py ---------------------------------------------------------------------------------


@pytest.fixture
def colour_script(script: Path, folder: Path) -> Path:
    """retrain.py with a network for the folder of JPEGs."""
    model = """
import torch
from torch import nn

INPUT, CLASSES, AUXILIARY = ("image", 3, 24, 24), 2, False


class Network(nn.Module):
    def __init__(self, auxiliary=False):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.head = nn.Linear(8, 2)
        self.drop_path_prob = 0.0

    def forward(self, x):
        return self.head(self.body(x).flatten(1) * (torch.rand(1, device=x.device) + 0.5))
"""
    (script / "runs" / "0" / "model.py").write_text(model)
    text = CONFIG
    for old, new in (
        ('"digits"', f'"imagefolder:{folder}"'),
        ('loader = "auto"', 'loader = "stream"'),
        ('randaugment = "off"', 'randaugment = "rand-m9-mstd0.5"'),
        ("erasing = 0.0", "erasing = 0.3"),
        ("batch_size = 96", "batch_size = 12"),
        ("cutout = 2", "cutout = 0"),
    ):
        assert old in text
        text = text.replace(old, new)
    (script / "config.toml").write_text(text)
    return script


def weights(out: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    return load_file(out / "retrain" / "weights.safetensors")


def test_a_streamed_run_that_is_killed_and_resumed_is_the_unstopped_one(colour_script: Path) -> None:
    line = ("--model", "runs/0/model.py", "--epochs", "2", "--seed", "3")
    whole = run(colour_script, *line, "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    assert "data: 52 images of 24 x 24 (0.0 GiB) are decoded while they are used" in whole.stdout
    assert "2 epochs of 3 steps" in whole.stdout
    # Stopped in the middle of the second epoch, while workers are ahead of it.
    stop = """
import os, runpy, signal, sys
sys.modules["nasdsl"] = None
sys.argv = ["retrain.py", *LINE, "--out", "cut"]
import torch
count = 0
step = torch.optim.SGD.step
def counted(self, *a, **k):
    global count
    count += 1
    if count == 5:
        os.killpg(0, signal.SIGTERM)  # as a scheduler does: to the whole group
    return step(self, *a, **k)
torch.optim.SGD.step = counted
runpy.run_path("retrain.py", run_name="__main__")
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    cut = subprocess.run(
        [sys.executable, "-W", "error", "-c", stop.replace("LINE", repr(line))],
        check=False,
        cwd=colour_script,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        start_new_session=True,
    )
    assert cut.returncode == 143, cut.stderr
    assert "stopped and saved" in cut.stdout
    resumed = run(colour_script, *line, "--out", "cut")
    assert resumed.returncode == 0, resumed.stderr
    assert "continuing cut/retrain at epoch 2, step 3" in resumed.stdout
    first, second = weights(colour_script / "whole"), weights(colour_script / "cut")
    assert all(torch.equal(first[name], second[name]) for name in first)
