"""A task with a network and an objective of its own is fitted, scored and read back like any other."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import train
from loaders import Batch
from loaders.dataset.catalog import Catalog
from loaders.dataset.labels import Label
from models.frontend.front_end import FrontEnd
from models.systems.presets import model_config_from_json, preset_to_json
from models.towers.tower import Tower
from models.training import runs
from models.training.config import PretrainConfig
from models.training.data import datasets_of, scoring_loader, training_loader
from models.training.loop import fit
from models.training.tasks.correspondence import Correspondence
from models.training.tasks.task import Model, Step, Task, front_end_of, sizes_of


class CosineNet(nn.Module):
    """Logits ± a multiple of the cosine between what the towers yield."""

    def __init__(self, video: Tower, audio: Tower) -> None:
        super().__init__()
        self.video, self.audio, self.scale = video, audio, nn.Parameter(torch.tensor(5.0))

    def forward(self, video: Tensor, audio: Tensor, gaze: Tensor | None = None) -> Tensor:
        cosine = self.scale * F.cosine_similarity(self.video(video), self.audio(audio))
        return torch.stack([-cosine, cosine], 1)


class Cosine(Correspondence):
    """Pairs told apart by a hinge on the cosine."""

    stage = "cosine"

    def model(self, catalogs: Sequence[Catalog], targets: Sequence[Label] = ()) -> Model:
        sizes = sizes_of(self._config)
        described = {"stage": self.stage, "model": "cosine", "gaze": False, "sizes": preset_to_json(sizes)}
        return Model(front_end_of(sizes, catalogs), CosineNet(sizes.video.tower(), sizes.audio.tower()), described)

    def load(self, folder: Path) -> tuple[FrontEnd, nn.Module]:
        sizes = model_config_from_json(runs.read_run(folder)["sizes"])
        network = CosineNet(sizes.video.tower(), sizes.audio.tower())
        return runs.load_model(folder, FrontEnd(sizes.front_end), network), network

    def step(self, batch: Batch, network: nn.Module, front_end: FrontEnd) -> Step:
        inputs = front_end(batch.video, batch.audio, batch.gaze, batch.gaze_valid, batch.seed)
        logits = network(inputs.video, inputs.audio)
        return Step(F.multi_margin_loss(logits, batch.match), {})


def test_another_network_and_objective_are_a_task(dataset: Path, tmp_path: Path) -> None:
    small = ["--preset", "tiny", "--width", "4", "--frame-size", "16", "--batch-size", "4", "--max-steps", "2"]
    config, _ = train.parse(["--stage", "pretrain", "--data", str(dataset), "--output", str(tmp_path / "run"), *small])
    assert isinstance(config, PretrainConfig)
    (tmp_path / "run").mkdir()
    task: Task = Cosine(config.network)
    accelerator = train.accelerator_of(config)
    datasets = datasets_of(config.data, config.loader, None)
    loader = training_loader(datasets, config.data, config.loader, accelerator, paired=task.paired)
    model = task.model(loader.catalogs)
    before = model.network.get_parameter("scale").item()
    fit(config, accelerator, task, model, loader)
    accelerator.end_training()
    assert model.network.get_parameter("scale").item() != before
    front_end, network = task.load(tmp_path / "run")
    assert network.get_parameter("scale").item() == pytest.approx(model.network.get_parameter("scale").item())
    with scoring_loader(datasets, config.data, config.loader, accelerator, None, paired=task.paired) as unseen:
        scores = task.score(accelerator, front_end, network, unseen)
    assert scores["pretraining"]["pairs"] == sum(map(sum, scores["pretraining"]["confusion"]))
