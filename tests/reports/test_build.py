"""The page: self-contained, honest, readable also when something failed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.bids.write.provenance import DEMONSTRATION_NOTE
from bids_interp.reports import build_report
from bids_interp.reports.common.crashes import (
    DISK_ADVICE,
    GENERAL_ADVICE,
    MEMORY_ADVICE,
    describe_crash,
    read_crashes,
)
from bids_interp.reports.scan.remeasured_figure import draw_remeasured, read_remeasured
from bids_interp.reports.scan.response_figures import draw_dose_response
from bids_interp.reports.scan.summary import summarise_scan
from helpers.pages import Page

PREFIX = 'sub-01_run-1'

METHODS = 'Bias was corrected with *N4* [@n4].'


@pytest.fixture(scope='module')
def page(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The report of the synthetic scan."""
    out = tmp_path_factory.mktemp('page') / 'out'
    shutil.copytree(drawn, out)
    report = build_report(out, PREFIX, methods=METHODS, run_uuid='uuid-7')
    assert report == out / f'{PREFIX}.html'
    assert report.stat().st_size < 5e6
    return Page(report)


def test_page_loads_nothing_from_outside(page: Page) -> None:
    assert len(page.loaded) > 15
    assert all(address.startswith('data:') for address in page.loaded)
    assert all(address.startswith('#') for address in page.anchors)
    assert {address[1:] for address in page.anchors} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def remeasured(out: Path, **agreements: dict[str, float | None]) -> ScanFiles:
    """Add what --remeasure writes, three regions for each simulation."""
    files = ScanFiles(out, PREFIX)
    content = json.loads(files.prediction.read_text())
    files.prediction.write_text(json.dumps({**content, 'Remeasured': agreements}))
    lines = ['direction\tdose\tregion\tside\tclaimed_pct\tremeasured_pct']
    for name, facts in agreements.items():
        for claimed in (-12.0, 1.0, 6.0):
            found = 'n/a' if facts['Slope'] is None else facts['Slope'] * claimed
            lines.append(f'{name[:6]}\t1\tputamen\tleft\t{claimed}\t{found}')
    path = files.anatomical / f'{PREFIX}_desc-remeasured_stats.tsv'
    path.write_text('\n'.join(lines) + '\n')
    return files


def test_remeasured_changes_are_shown_with_their_agreement(drawn: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(drawn, tmp_path / 'out'))
    files = remeasured(
        out,
        inject100={'Slope': 0.75, 'R': 0.97, 'Regions': 3},
        remove100={'Slope': 0.3, 'R': 0.42, 'Regions': 3},
    )
    np.testing.assert_allclose(read_remeasured(files)['inject'], [[-12, 1, 6], [-9, 0.75, 4.5]])
    assert draw_remeasured(files) == files.figure('remeasured', '.svg')
    text = build_report(out, PREFIX).read_text(encoding='utf-8')
    assert re.findall(r'data-remeasured="(\w+)"', text) == ['inject100', 'remove100']
    assert re.search(r'data-remeasured="inject100".*?0\.75.*?0\.97', text, re.DOTALL)
    assert re.findall(r'data-caution="(un\w+)"', text) == ['unconfirmed']


def test_what_could_not_be_measured_again_is_said(drawn: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(drawn, tmp_path / 'out'))
    files = remeasured(
        out,
        inject100={'Slope': None, 'R': None, 'Regions': 3},
        remove100={'Slope': 0.9, 'R': 0.95, 'Regions': 3},
    )
    assert list(read_remeasured(files)) == ['remove']
    draw_remeasured(files)
    text = build_report(out, PREFIX).read_text(encoding='utf-8')
    assert re.findall(r'data-caution="(un\w+)"', text) == ['unmeasured']


def test_an_earlier_measurement_is_not_shown(drawn: Path, tmp_path: Path) -> None:
    """The table of an earlier run stays in the folder; the prediction does not list it."""
    out = Path(shutil.copytree(drawn, tmp_path / 'out'))
    files = remeasured(out, inject100={'Slope': 0.75, 'R': 0.97, 'Regions': 3})
    content = json.loads(files.prediction.read_text())
    del content['Remeasured']
    files.prediction.write_text(json.dumps(content))
    assert read_remeasured(files) == {}
    assert draw_remeasured(files) is None
    assert 'data-remeasured' not in build_report(out, PREFIX).read_text(encoding='utf-8')


def test_style_and_script_load_nothing(drawn: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(drawn, tmp_path / 'out'))
    text = build_report(out, PREFIX).read_text(encoding='utf-8')
    without_data = re.sub(r'data:[a-z+/]+;base64,[A-Za-z0-9+/=]+', '', text)
    assert not re.search(r'url\(|@import|https?://(?!$)|fetch\(|XMLHttp', without_data)
    assert str(tmp_path) not in text


def test_summary_comes_first_and_says_it_all(page: Page) -> None:
    assert page.ids.index('research') < page.ids.index('demonstration') < page.ids.index('answer')
    assert page.ids.index('answer') < page.ids.index('flip') < page.ids.index('quality')
    assert page.find('answer').text == 'control'
    chances = page.find('probability').attributes
    assert (chances['data-agreeing'], chances['data-folds']) == ('5', '5')
    assert page.find('flip').attributes['data-dose'] == '+0.31'
    assert page.values('data-caution') == ['input']
    assert page.find('no-errors').attributes['data-finished'] == 'true'
    for words in (
        'left hippocampus',
        'bids:raw:sub-01/anat/sub-01_run-1_T1w.nii.gz',
        '1 x 1.33 x 1.33 mm (160 x 192 x 192)',
        'LAS',
        'MNI152NLin6Asym',
        '1.45',
        'demonstration (abc123def456)',
    ):
        assert words in page.find('summary').text, words
    assert 'Tustison et al., 2010' in page.find('methods').text
    assert 'uuid-7' in page.text


def test_sign_is_explained(page: Page) -> None:
    sign = page.find('sign').text.lower()
    assert sign.index('negative') < sign.index('shrinks') < sign.index('positive')
    assert sign.index('positive') < sign.index('grows')
    caption = next(e.text for e in page.elements if e.tag == 'figcaption')
    assert re.search('shrinks .*grows.*“patient”', caption)


def change_prediction(out: Path, **fields: object) -> None:
    """Overwrite fields of the prediction."""
    path = ScanFiles(out, PREFIX).prediction
    assert path is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_real_model_has_no_demonstration_banner(derivatives: Path) -> None:
    change_prediction(derivatives, Demonstration=False)
    page = Page(build_report(derivatives, PREFIX))
    assert 'demonstration' not in page.ids
    assert 'research' in page.ids


@pytest.mark.parametrize(('found', 'is_told'), [(0.16, True), (0.45, False)])
def test_a_brain_that_looks_like_none_is_told(derivatives: Path, found, is_told) -> None:
    files = ScanFiles(derivatives, PREFIX)
    path = files.anatomical / f'{PREFIX}_from-T1w_to-{files.template_name}_mode-image_xfm.json'
    path.write_text(json.dumps({'Registration': {'correlation_inside': found}}))
    page = Page(build_report(derivatives, PREFIX))
    told = [e.text for e in page.having('data-caution') if e.attributes['data-caution'] == 'unlike']
    assert ['0.16' in text for text in told] == [True] * is_told


def test_missing_parts_and_turned_heads_are_told(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    path = files.anatomical / f'{PREFIX}_from-T1w_to-{files.template_name}_mode-image_xfm.json'
    warnings = ['The cerebellum is missing.', 'It was turned.']
    path.write_text(json.dumps({'Registration': {'warnings': warnings}}))
    page = Page(build_report(derivatives, PREFIX))
    cautions = page.having('data-caution')
    told = [e.text for e in cautions if e.attributes['data-caution'] == 'registration']
    assert len(told) == 2
    assert 'cerebellum' in told[0]


def test_our_own_errors_say_what_helps_themselves(derivatives: Path) -> None:
    own = 'Traceback ...\nbids_interp.errors.ImageError: No brain.'
    assert describe_crash({'traceback': own}).advice == ''
    assert describe_crash({'traceback': 'Traceback ...\nKeyError: 1'}).advice == GENERAL_ADVICE
    error = {'node': 'register_brain', 'message': 'No brain.', 'traceback': own}
    errors = Page(build_report(derivatives, PREFIX, errors=[error]))
    assert 'No brain.' in errors.find('errors').text
    assert errors.of_class('advice') == []


def test_cautions_are_told(derivatives: Path) -> None:
    change_prediction(derivatives, InTrainingSet=True, ExplanationWarranted=False)
    stats = ScanFiles(derivatives, PREFIX).native('desc-counterfactual_stats.tsv')
    assert stats is not None
    lines = stats.read_text().splitlines()
    columns = lines[0].split('\t')
    cells = lines[1].split('\t')
    cells[columns.index('n_folded')] = '12'
    stats.write_text('\n'.join([lines[0], '\t'.join(cells)]) + '\n')
    page = Page(build_report(derivatives, PREFIX))
    told = {e.attributes['data-caution']: e.text for e in page.having('data-caution')}
    assert page.find('scope').attributes['data-scope'] == 'chance'
    assert list(told) == ['held-out', 'folded', 'input']
    assert told['folded'].startswith('12 ')


def test_a_scan_that_the_classifier_has_seen_is_told(derivatives: Path) -> None:
    change_prediction(derivatives, InTrainingSet=True, HeldOut=False)
    page = Page(build_report(derivatives, PREFIX))
    assert 'seen' in page.values('data-caution')
    assert 'held-out' not in page.values('data-caution')


def test_class_names_are_escaped(derivatives: Path) -> None:
    change_prediction(derivatives, Target={'negative': 'a<script>x', 'positive': '<img src=http:>'})
    page = Page(build_report(derivatives, PREFIX))
    assert all(address.startswith('data:') for address in page.loaded)
    assert '<img src=http:>' in page.text


def test_failed_scan_has_a_report_with_what_helps(tmp_path: Path) -> None:
    error = {'node': 'anatomical_wf.n4', 'traceback': 'Traceback\nMemoryError: <3 GiB>'}
    page = Page(build_report(tmp_path, 'sub-02_ses-a', errors=[error, error]))
    assert 'unfinished' in page.ids
    assert re.search(r'\b02\b.*\ba\b', page.find('title').text)
    (advice,) = page.of_class('advice')
    assert advice.text.endswith(MEMORY_ADVICE)
    assert 'MemoryError: <3 GiB>' in page.find('errors').text
    assert 'anatomical_wf.n4' in page.find('errors').text


def test_half_finished_scan_shows_the_figures_that_exist(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    for path in [*files.anatomical.glob('*prediction*'), *files.anatomical.glob('*stats*')]:
        path.unlink()
    for path in files.figures.iterdir():
        if '_desc-mask_' not in path.name:
            path.unlink()
    page = Page(build_report(derivatives, PREFIX))
    assert sum(address.startswith('data:image') for address in page.loaded) == 1
    assert page.find('no-errors').attributes['data-finished'] == 'false'


def test_other_runs_stay_in_their_own_report(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    for path in list(files.figures.iterdir()):
        other = path.name.replace('run-1', 'run-10')
        content = path.read_bytes().replace(b'"sub-01_run-1"', b'"sub-01_run-10"')
        (files.figures / other).write_bytes(content)
    alone = Page(build_report(derivatives, PREFIX))
    assert sum('image' in address for address in alone.loaded) == 9 + 8


def test_crash_files_are_read(tmp_path: Path) -> None:
    text = (
        'Node: bids_interp.sub_01.anatomical_wf.n4\nWorking directory: /scratch/n4\n\n'
        'Node inputs:\n\nimage = head.nii.gz\n\n'
        'Traceback (most recent call last):\n  File "n4.py", line 1\n'
        'OSError: No space left on device\n'
    )
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'crash-20260101-000000-user-n4-1.txt').write_text(text)
    (tmp_path / 'run' / 'crash-20260101-000001-user-n4-2.txt').write_text('torn')
    errors = read_crashes(tmp_path)
    assert [error['node'] for error in errors] == ['bids_interp.sub_01.anatomical_wf.n4', '']
    assert [error['file'][-5] for error in errors] == ['1', '2']
    assert read_crashes(tmp_path, contains='sub_02') == []
    advice = [
        e.text for e in Page(build_report(tmp_path, 'sub-01', errors=errors)).of_class('advice')
    ]
    assert [DISK_ADVICE in text for text in advice] == [True, False]


def test_report_is_the_same_when_made_again(derivatives: Path) -> None:
    first = build_report(derivatives, PREFIX).read_bytes()
    assert build_report(derivatives, PREFIX).read_bytes() == first
    assert not list(derivatives.glob('.*.html'))


def test_scan_without_derivatives_says_that_the_run_used_the_demonstration(tmp_path: Path) -> None:
    makers = [
        {'Name': 'bids_interp'},
        {'Name': 'demo', 'Description': DEMONSTRATION_NOTE},
    ]
    (tmp_path / 'dataset_description.json').write_text(json.dumps({'GeneratedBy': makers}))
    assert 'demonstration' in Page(build_report(tmp_path, 'sub-01')).ids
    (tmp_path / 'dataset_description.json').write_text(json.dumps({'GeneratedBy': makers[:1]}))
    assert 'demonstration' not in Page(build_report(tmp_path, 'sub-01')).ids


def test_errors_come_before_the_figures(derivatives: Path) -> None:
    page = Page(build_report(derivatives, PREFIX, errors=[{'node': 'x', 'message': 'gone'}]))
    assert page.ids.index('errors') < page.ids.index('changes')
    assert page.ids.count('errors') == len(page.of_class('advice')) == 1


def test_checks_of_a_simulation_are_shown(derivatives: Path) -> None:
    stats = ScanFiles(derivatives, PREFIX).native('desc-counterfactual_stats.tsv')
    assert stats is not None
    checks = {'dose_monotonicity': '0.75', 'composition_rmse_mm': '0.0123', 'realism_z': 'n/a'}
    first, *rows = stats.read_text().splitlines()
    lines = ['\t'.join([first, *checks]), *('\t'.join([row, *checks.values()]) for row in rows)]
    stats.write_text('\n'.join(lines) + '\n')
    page = Page(build_report(derivatives, PREFIX))
    shown = {e.attributes['data-number']: e.text for e in reversed(page.having('data-number'))}
    wanted = {'dose_monotonicity': '75%', 'composition_rmse_mm': '0.012', 'realism_z': 'n/a'}
    wanted['mean_abs_log_jacobian'] = '0.021'
    assert {name: shown[name] for name in wanted} == wanted
    assert 'meanings' in page.ids


def test_a_regression_has_values_instead_of_probabilities(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    response = files.native('desc-doseresponse_stats.tsv')
    rows = [line.split('\t') for line in response.read_text().splitlines()]
    place = rows[0].index('probability')
    for row in rows[1:]:
        row[place] = 'n/a'
    response.write_text('\n'.join('\t'.join(row) for row in rows) + '\n')
    prediction = json.loads(files.prediction.read_text())
    prediction['Target'] = {
        'kind': 'regression',
        'label': 'age',
        'mean': 50.0,
        'sd': 10.0,
        'negative': 'lower',
        'positive': 'higher',
    }
    files.prediction.write_text(json.dumps(prediction))
    summary = summarise_scan(files)
    observed = [float(row[rows[0].index('logit')]) for row in rows[1:] if row[0] == 'none']
    assert summary.finished
    assert summary.values == pytest.approx([50 + 10 * value for value in observed])
    page = Page(build_report(files.output_dir, files.prefix))
    assert page.find('spread').text.startswith('10 ')
    before = files.figure('dose', '.svg').read_bytes()
    assert draw_dose_response(files).read_bytes() != before
    assert not {'answer', 'probability', 'flip'} & set(page.ids)
