"""The checks of ``train --sanity``, added to the train workflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nipype.pipeline import engine as pe
from niworkflows.engine.workflows import LiterateWorkflow as Workflow

from bids_interp.interfaces.train_sanity import SanityFold


def add_sanity(
    workflow: Workflow,
    index: int,
    directory: Path,
    computed: dict[str, Any],
    share: dict[str, Any],
) -> None:
    """Add the checks of one fold: after its training, before everything is put together.

    Parameters
    ----------
    workflow : Workflow
        Of :func:`bids_interp.workflows.train.init_train_wf`.
    index : int
        Number of the fold.
    directory : pathlib.Path
        For checkpoints; not that of the folds, whose curves are shown as those of the model.
    computed : dict
        Inputs that the check has in common with the training of a fold.
    share : dict
        Memory and processors of the node.
    """
    gather_cohort, assemble_model, train_fold = (
        workflow.get_node(name)
        for name in ('gather_cohort', 'assemble_model', f'train_fold_{index}')
    )
    sanity_fold = pe.Node(
        SanityFold(index=index, directory=str(directory), **computed),
        name=f'sanity_fold_{index}',
        **share,
    )
    workflow.connect([
        (gather_cohort, sanity_fold, [('cohort', 'cohort'), ('folds', 'folds')]),
        (train_fold, sanity_fold, [('result', 'result')]),
        (sanity_fold, assemble_model, [('sanity', 'sanity')]),
    ])  # fmt: skip
