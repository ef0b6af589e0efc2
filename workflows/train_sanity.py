"""Sanity checks of a training, added to the train workflow by ``train --sanity``."""

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
    fold_inputs: dict[str, Any],
    resources: dict[str, Any],
) -> None:
    """Add the checks of one fold between its training and the assembly of the model.

    Parameters
    ----------
    workflow : Workflow
        Workflow of :func:`bids_interp.workflows.train.init_train_wf`.
    index : int
        Number of the fold.
    directory : pathlib.Path
        Folder for checkpoints, other than that of the folds, whose curves are reported.
    fold_inputs : dict
        Inputs that the checks share with the training of a fold.
    resources : dict
        Memory and processors of the node.
    """
    gather_cohort, assemble_model, train_fold = (
        workflow.get_node(name)
        for name in ('gather_cohort', 'assemble_model', f'train_fold_{index}')
    )
    sanity_fold = pe.Node(
        SanityFold(index=index, directory=str(directory), **fold_inputs),
        name=f'sanity_fold_{index}',
        **resources,
    )
    workflow.connect([
        (gather_cohort, sanity_fold, [('cohort', 'cohort'), ('folds', 'folds')]),
        (train_fold, sanity_fold, [('result', 'result')]),
        (sanity_fold, assemble_model, [('sanity', 'sanity')]),
    ])  # fmt: skip
    choose_classifier = workflow.get_node('choose_classifier')
    if choose_classifier is not None:
        recipe = [(name, name) for name in ('recipe', 'recipe_digest')]
        workflow.connect([(choose_classifier, sanity_fold, recipe)])
