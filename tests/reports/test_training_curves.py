"""Curves are read as Lightning writes them, also after a resumed or broken run."""

from __future__ import annotations

from pathlib import Path

from bids_interp.reports.training.learning_curves import draw_curves, read_curves


def test_rows_of_one_step_are_joined(tmp_path: Path) -> None:
    first = tmp_path / 'fold-0' / 'classifier-ab'
    second = first / 'template-cd'
    second.mkdir(parents=True)
    (first / 'metrics.csv').write_text(
        'epoch,loss,step,validation_loss\n'
        '0,0.7,24,\n'
        '0,0.6,49,\n'
        '0,,49,0.65\n'
        '0,0.1,24,\n'  # a resumed run logs this step again
        '0,nan,74,\n'
    )
    (second / 'metrics.csv').write_text('epoch,hinge,step\n0,0.5,24\n')
    (tmp_path / 'fold-1').mkdir()
    (tmp_path / 'fold-1' / 'metrics.csv').write_bytes(b'\xff\xfe\x00broken')
    assert read_curves(tmp_path) == {
        'fold-0/classifier-ab': [
            {'step': 24, 'loss': 0.1},
            {'step': 49, 'loss': 0.6, 'validation_loss': 0.65},
        ],
        'fold-0/classifier-ab/template-cd': [{'step': 24, 'hinge': 0.5}],
    }


def test_panels_by_stage_and_lines_by_fold() -> None:
    rows = [{'step': step, 'loss': 0.5, 'validation_loss': 0.4} for step in range(0, 100, 10)]
    hinge = [{'step': step, 'hinge': 1.0} for step in range(1000)]
    curves = {
        'fold-0/classifier-a/residual-b': hinge,
        'fold-0/classifier-a/template-b': hinge,
        'fold-0/classifier-a': rows,
        'fold-1/classifier-a': rows,
    }
    figure = draw_curves(curves)
    titles = [axes.get_title(loc='left') for axes in figure.axes]
    stages = [title.partition(':')[0] for title in titles]
    assert stages == ['classifier', 'template', 'residual']
    assert [len(axes.lines) for axes in figure.axes] == [4, 1, 1]
    assert len(figure.axes[1].lines[0].get_xdata()) <= 100
    assert figure.axes[1].lines[0].get_xdata()[-1] > 900


def test_no_curves() -> None:
    assert draw_curves({}) is None
