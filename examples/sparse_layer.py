"""Make any model sparse before training it: the ten lines of the README."""

import torch
from torch import nn

from dnc_sparse.nn import conversion_report, sparsify

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 10))
model = sparsify(model, density=1 / 8)
print(conversion_report(model))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

x = torch.randn(1024, 784)
y = x[:, :10].argmax(dim=1)
for step in range(60):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 20 == 19:
        print(f"step {step + 1}: loss {loss.item():.3f}")
