"""One step of training on this rank: loss, gradients, update; and what a checkpoint keeps of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlk8s.errors import UsageError
from mlk8s.lm import checkpoint, data
from mlk8s.lm.model import Model
from mlk8s.lm.plan import Plan, learning_rate
from mlk8s.lm.processes import Ranks

#: As in GPT-3 (Brown et al., arXiv:2005.14165, appendix B) and Llama.
_BETAS = (0.9, 0.95)


class Loop:
    """The network, its optimizer and its data, on this rank."""

    def __init__(self, model: Model, rows: Sequence[data.Row], plan: Plan, ranks: Ranks) -> None:
        import torch

        if plan.batch % ranks.size:
            raise UsageError(
                f"A batch of {plan.batch} rows cannot be split evenly over {ranks.size} processes.",
                "choose a batch that the number of processes divides.",
            )
        self.plan, self.ranks, self.rows = plan, ranks, rows
        self.padding = model.tokenizer.pad_token_id
        model.network.to(ranks.device).train()
        if ranks.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(ranks.device)
        self.named = {n: p for n, p in model.network.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.named.values(), lr=plan.lr, betas=_BETAS, weight_decay=plan.weight_decay
        )
        self.network = ranks.wrap(model.network)

    @property
    def lr(self) -> float:
        """The learning rate of the last step."""
        return float(self.optimizer.param_groups[0]["lr"])

    def step(self, number: int) -> tuple[float, int]:
        """Do a step; this rank's part of the loss, and the tokens that all ranks read."""
        import torch

        plan, ranks = self.plan, self.ranks
        batch = data.batch_at(self.rows, number, plan.batch, plan.seed)
        loss = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.named.values(), plan.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(plan, number)
        self.optimizer.step()
        return loss.item() / ranks.size, sum(len(row.ids) for row in batch)

    def loss(self, batch: Sequence[data.Row]) -> Any:
        """This rank's part of the batch's mean loss, times the number of ranks.

        The mean is over the predicted tokens of the whole batch, of which this rank may have more
        or fewer than others; and the ranks' gradients are averaged, hence the factor.
        """
        import torch

        ranks = self.ranks
        mine = batch[ranks.rank :: ranks.size]
        inputs, labels = (each.to(ranks.device) for each in data.tensors(mine, self.padding))
        half = self.plan.precision == "bf16"
        with torch.autocast(ranks.device.type, torch.bfloat16, enabled=half):
            logits = self.network(input_ids=inputs).logits
        total = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(),
            labels[:, 1:].flatten(),
            ignore_index=data.IGNORED,
            reduction="sum",
        )
        return total * ranks.size / sum(row.targets for row in batch)

    def resume(self, folder: Path, identity: dict[str, str]) -> checkpoint.State:
        """Take over a checkpoint's state, if there is one.

        Raises:
            UsageError: it is of another run, or not all ranks see it.
        """
        state = checkpoint.read(folder, identity) or checkpoint.State(identity)
        [sum_of_steps] = self.ranks.summed(state.step)
        if sum_of_steps != state.step * self.ranks.size:
            raise UsageError(
                f"Not all processes see the same checkpoint in {folder}.",
                "put the folder on a volume that all of them mount.",
            )
        if state.step:
            import torch

            with torch.no_grad():
                for name, parameter in self.named.items():
                    parameter.copy_(state.weights[name])
            self.optimizer.load_state_dict(state.optimizer)
        return state

    def saved(self, state: checkpoint.State) -> checkpoint.State:
        """The state with what the network and the optimizer hold now."""
        state.weights = {name: parameter.detach() for name, parameter in self.named.items()}
        state.optimizer = self.optimizer.state_dict()
        return state
