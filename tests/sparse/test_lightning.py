"""Lightning trains, saves, resumes and loads sparse layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision_ops import declare

from dnc_sparse import SparseLinear

# torchmetrics, which lightning imports, imports torchvision where there is one
declare()
lightning = pytest.importorskip("lightning")

FOREIGN = r"the weights belong to clash_free\(.* but this layer has clash_free\("
# of lightning and torch: few workers, no logger, checkpoints read without weights_only
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


class Regression(lightning.LightningModule):  # type: ignore[misc]
    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        choice = {"density": 0.25, "seed": seed}
        self.net = nn.Sequential(SparseLinear(64, 32, **choice), SparseLinear(32, 8, **choice))

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        loss: Tensor = self.net(batch[0]).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


def fit(folder: Path, model: Any, epochs: int, **options: Any) -> Any:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    rows = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(rows), batch_size=4)
    trainer.fit(model, data, **options)
    return trainer


def test_training_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole = Regression()
    start = whole.net[0].weight.clone()
    fit(tmp_path, whole, 2)
    assert not torch.equal(whole.net[0].weight, start)
    file = tmp_path / "half.ckpt"
    fit(tmp_path, Regression(), 1).save_checkpoint(file)
    resumed = Regression()
    fit(tmp_path, resumed, 2, ckpt_path=str(file))
    for mine, other in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_checkpoints_of_another_pattern_are_refused(tmp_path: Path) -> None:
    model, file = Regression(), tmp_path / "last.ckpt"
    fit(tmp_path, model, 1).save_checkpoint(file)
    loaded = Regression.load_from_checkpoint(str(file), seed=0, weights_only=True)
    x = torch.randn(3, 64)
    assert torch.equal(loaded.net(x), model.net(x))
    with pytest.raises(RuntimeError, match=FOREIGN):
        Regression.load_from_checkpoint(str(file), seed=1, weights_only=True)
    with pytest.raises(RuntimeError, match=FOREIGN):
        fit(tmp_path, Regression(seed=1), 2, ckpt_path=str(file))
