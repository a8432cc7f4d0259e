"""The model as its likelihood sees it: without priors of several parameters together."""

from dataclasses import replace

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed
from glmm_bayes.parameters import Block


def plain(model: Model) -> Model:
    """
    Put default priors in place of those of several parameters together.

    With these go the parameters that coefficients are a function of. The model itself, where
    there are none; else one whose `whole` is the model.
    """
    if not any(prior.is_whole for block in model.blocks for prior in block.priors):
        return model
    given = {block.name: block for block in model.blocks}
    blocks = tuple(_plain(given[default.name], default) for default in model.defaults)
    return changed(model, blocks=blocks, dependents=(), whole=model)


def _plain(block: Block, default: Block) -> Block:
    pairs = zip(block.priors, default.priors, strict=True)
    return replace(block, priors=tuple(own if p.is_whole else p for p, own in pairs))


def refuse_dependents(model: Model) -> None:
    """
    Refuse what needs the density of the coefficients themselves.

    Raises
    ------
    NotSupportedError
        If coefficients are a function of other parameters.
    """
    for each in model.dependents:
        block = next(block for block in model.blocks if block.name == each.block)
        k = each.entries[0]
        raise NotSupportedError(
            f"The prior of {block.sources[k]!r}, {block.priors[k]!r}, makes coefficients of other "
            f"parameters, around whose common mode there is nothing like a normal; use fit('nuts')."
        )
