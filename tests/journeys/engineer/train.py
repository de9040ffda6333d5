"""The engineer's own training: ``python train.py DATASET RUN [--resume]``.

A checkpoint every three steps; ``--resume`` goes on from the last. RUN/clips.jsonl gets a line a step: its number, and
the clips that were seen and heard in it.
"""

import argparse
import json
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from loaders import Batch, ClipLoader
from models import Match  # the project's own


class Clips(pl.LightningDataModule):
    def __init__(self, data: str) -> None:
        super().__init__()
        self.data = data
        self.loaders: list[ClipLoader] = []

    def train_dataloader(self) -> ClipLoader:
        self.loaders.append(ClipLoader(self.data, "train", batch_size=4, device=self.trainer.strategy.root_device))
        return self.loaders[-1]

    def teardown(self, stage: str) -> None:
        while self.loaders:
            self.loaders.pop().close()


class Training(pl.LightningModule):
    def __init__(self, run: Path) -> None:
        super().__init__()
        self.network = Match()
        self.seen = (run / "clips.jsonl").open("a", buffering=1)

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        line = {"step": self.global_step, "seen": batch.clip.tolist(), "heard": batch.audio_clip.tolist()}
        self.seen.write(json.dumps(line) + "\n")
        return nn.functional.binary_cross_entropy_with_logits(
            self.network(batch.video, batch.audio), batch.match.float()
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("run", type=Path)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    options.run.mkdir(exist_ok=options.resume)
    pl.seed_everything(0, verbose=False)
    every = ModelCheckpoint(options.run, filename="{step}", every_n_train_steps=3, save_last=True)
    trainer = pl.Trainer(
        callbacks=[every], default_root_dir=options.run, logger=False, max_epochs=5, accelerator="cpu", devices=1,
        enable_progress_bar=False, enable_model_summary=False, deterministic=True,
    )  # fmt: skip
    trainer.fit(Training(options.run), datamodule=Clips(options.data), ckpt_path="last" if options.resume else None)
    trainer.save_checkpoint(options.run / "end.ckpt")
