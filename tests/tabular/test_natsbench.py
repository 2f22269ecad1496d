"""The adapter over the real package, on archives in its format that are made here.

The package is no requirement: without it these tests are skipped, saying so. The benchmark's own files
are gigabytes and were never read by them.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

import nasdsl
from nasdsl.errors import UserError
from tests.tabular.tables import CONV, NONE, POOL, SKIP, told

nats_bench = pytest.importorskip("nats_bench", reason="the package nats_bench is not installed")
SPACES = {
    "tss": ("nasbench201", (SKIP, CONV, POOL), {"12": 12, "200": 200}),
    "sss": ("nats_size", ("8:8:8:8:8", "64:64:64:64:64", "8:16:24:32:40"), {"01": 1, "12": 12, "90": 90}),
}
SETS = {
    "cifar10-valid": ("x-valid", "ori-test"),
    "cifar10": ("ori-test",),
    "cifar100": ("x-valid", "x-test", "ori-test"),
}
SEEDS = (777, 888)


def accuracy(arch: int, dataset: str, part: str, epochs: int, seed: int) -> float:
    return arch * 10 + len(dataset) + len(part) / 10 + epochs / 1000 + (seed == 888)


def archive(folder: Path, which: str) -> tuple[Path, Path]:
    """The folder and the file of a benchmark with three architectures, each trained twice."""
    from nats_bench.api_utils import ArchResults, ResultsCount, pickle_save

    _, names, schedules = SPACES[which]
    infos: dict[int, dict[str, object]] = {}
    for index, name in enumerate(names):
        infos[index] = {}
        for hp, epochs in schedules.items():
            results = ArchResults(index, name)
            for dataset, parts in SETS.items():
                for seed in SEEDS:
                    every = dict.fromkeys(range(epochs), 0.5)
                    one = ResultsCount(
                        dataset, None, every, every, 1, 1, {"arch_str": name}, seed, epochs, None
                    )
                    one.reset_pseudo_train_times(1.0)
                    keys = [(p, e) for p in parts for e in range(epochs)]
                    one.update_eval(
                        {f"{p}@{e}": accuracy(index, dataset, p, epochs, seed) for p, e in keys},
                        {f"{p}@{e}": 2.0 + index for p, e in keys},
                        {f"{p}@{e}": 1.0 for p, e in keys},
                    )
                    results.update(dataset, seed, one)
            infos[index][hp] = results.state_dict()
    simple = folder / "simple"
    simple.mkdir()
    pickle_save({"meta_archs": list(names)}, f"{simple}/meta", ".pickle.pbz2")
    for index, info in infos.items():
        pickle_save(info, f"{simple}/{index:06d}", ".pickle.pbz2")
    whole = {"meta_archs": list(names), "arch2infos": infos, "evaluated_indexes": list(infos)}
    pickle_save(whole, f"{folder}/whole", ".pickle.pbz2")
    return simple, folder / "whole.pickle.pbz2"


@pytest.mark.parametrize("which", SPACES)
def test_look_ups(tmp_path: Path, which: str) -> None:
    name, texts, schedules = SPACES[which]
    space = nasdsl.load(name)
    paths = [d.path for d in space.decisions]
    archs = [
        space.parse(t) if "|" in t else space.architecture(dict(zip(paths, t.split(":"), strict=True)))
        for t in texts
    ]
    last = max(schedules.values())
    for path in archive(tmp_path, which):
        table = space.table(f"natsbench:{path}", f"cifar10-valid/valid-accuracy/{last}ep")
        assert (len(table), table.check(space.architecture)) == (3, 3)
        assert (table.digest is None) == path.is_dir()
        for index, arch in enumerate(archs):
            mean = fmean(accuracy(index, "cifar10-valid", "x-valid", last, s) for s in SEEDS)
            found = table.standing(arch)
            assert found.value == pytest.approx(mean)
            assert (found.rank, found.size, found.better) == (3 - index, 3, "higher")
            all_ = table.look_up(arch)
            test = fmean(accuracy(index, "cifar100", "x-test", 12, s) for s in SEEDS)
            assert all_["cifar100/test-accuracy/12ep"] == pytest.approx(test)
            whole = fmean(accuracy(index, "cifar100", "ori-test", 12, s) for s in SEEDS)
            assert all_["cifar100/valtest-accuracy/12ep"] == pytest.approx(whole)
            assert all_["cifar10/test-loss/12ep"] == 2 + index
            assert all_["cifar10/train-all-time/12ep"] == 12
            assert all_["ImageNet16-120/test-accuracy/12ep"] is None  # not trained on it here
        assert space.parse(table.best().architecture) == archs[2]
        assert space.parse(table.best("cifar10/test-loss/12ep").architecture) == archs[0]


def test_an_architecture_that_is_not_there(tmp_path: Path) -> None:
    space = nasdsl.load("nasbench201")
    table = space.table(f"natsbench:{archive(tmp_path, 'tss')[0]}")
    assert not table.has(space.parse(NONE))
    assert set(table.look_up(space.parse(NONE)).values()) == {None}


def test_files_that_are_something_else(tmp_path: Path) -> None:
    space = nasdsl.load("nasbench201")
    simple, whole = archive(tmp_path, "tss")
    junk = tmp_path / "junk"
    junk.write_bytes(b"no pickle at all")
    size = tmp_path / "size"
    size.mkdir()
    for path in (junk, tmp_path, archive(size, "sss")[0]):
        with pytest.raises(UserError, match="NAS601"):
            space.table(f"natsbench:{path}")
    with pytest.raises(UserError) as caught:
        space.table(f"natsbench:{whole}#sha256={'0' * 64}")
    assert told(caught.value)[0] == "NAS602"
    (simple / "000001.pickle.pbz2").unlink()
    table = space.table(f"natsbench:{simple}", "cifar10/test-accuracy/200ep")
    with pytest.raises(UserError, match="cannot read"):
        table.best()
