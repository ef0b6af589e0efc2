"""The page: self-contained, honest, readable also when something failed."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bids_interp.reports import build_report
from bids_interp.reports.crashes import GENERAL_ADVICE, describe, read_crashes
from bids_interp.reports.files import ScanFiles
from bids_interp.reports.response_figures import draw_dose_response
from bids_interp.reports.summary import summarise

PREFIX = 'sub-01_run-1'

METHODS = 'Bias was corrected with *N4* [@n4].'
VOID = {'meta', 'link', 'img', 'input', 'br', 'hr'}


class Page(HTMLParser):
    """Collects what a page would load, its text and its identifiers; checks that tags close."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.anchors: list[str] = []
        self.names: list[str] = []
        self.open: list[str] = []
        self.text = ''
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ('src', 'data', 'srcset', 'poster') or (tag == 'link' and name == 'href'):
                self.loaded.append(value or '')
            if tag == 'a' and name == 'href':
                self.anchors.append(value or '')
            if name == 'id':
                self.names.append(value or '')

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ('style', 'script'):
            self.text += data


def plain(page: Page) -> str:
    """Text with single spaces."""
    return ' '.join(page.text.split())


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
    assert {address[1:] for address in page.anchors} <= set(page.names)
    assert not page.open


def test_style_and_script_load_nothing(drawn: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(drawn, tmp_path / 'out'))
    text = build_report(out, PREFIX).read_text(encoding='utf-8')
    without_data = re.sub(r'data:[a-z+/]+;base64,[A-Za-z0-9+/=]+', '', text)
    assert not re.search(r'url\(|@import|https?://(?!$)|fetch\(|XMLHttp', without_data)
    assert str(tmp_path) not in text


def test_summary_comes_first_and_says_it_all(page: Page) -> None:
    text = plain(page)
    for words in (
        'Research use only, not for diagnosis',
        'Made with a demonstration model',
        'What the classifier said control',
        '5 of 5 say “control”',
        'Dose 0.31 injected',
        'left hippocampus',
        'Input bids:raw:sub-01/anat/sub-01_run-1_T1w.nii.gz',
        'Voxels 1 x 1.33 x 1.33 mm (160 x 192 x 192), stored as LAS',
        'Brain mask extracted with the head template MNI152NLin6Asym, 1.45 litres',
        'Read with care The qform was missing',
        'In the training set no',
        'demonstration (abc123def456)',
        'Errors None.',
        'Tustison et al., 2010',
        'run uuid-7',
    ):
        assert words in text, words
    assert text.index('Research use only') < text.index('What the classifier said')
    assert text.index('What the classifier said') < text.index('Input and brain mask')


def test_sign_is_explained(page: Page) -> None:
    text = plain(page)
    assert 'negative (blue) means that tissue shrinks, positive (red) that it grows' in text
    assert 'shrink (blue) or grow (red) to look more like “patient”' in text


def change_prediction(out: Path, **fields: object) -> None:
    """Overwrite fields of the prediction."""
    path = ScanFiles(out, PREFIX).prediction
    assert path is not None
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_real_model_has_no_demonstration_banner(derivatives: Path) -> None:
    change_prediction(derivatives, Demonstration=False)
    text = plain(Page(build_report(derivatives, PREFIX)))
    assert 'demonstration model' not in text
    assert 'Research use only, not for diagnosis' in text


@pytest.mark.parametrize(('found', 'is_told'), [(0.16, True), (0.45, False)])
def test_a_brain_that_looks_like_none_is_told(derivatives: Path, found, is_told) -> None:
    files = ScanFiles(derivatives, PREFIX)
    path = files.anatomical / f'{PREFIX}_from-T1w_to-{files.template_name}_mode-image_xfm.json'
    path.write_text(json.dumps({'Registration': {'correlation_inside': found}}))
    text = plain(Page(build_report(derivatives, PREFIX)))
    assert ('hardly looks like the template (correlation 0.16)' in text) is is_told


def test_our_own_errors_say_what_helps_themselves(derivatives: Path) -> None:
    own = 'Traceback ...\nbids_interp.errors.ImageError: No brain. Look at the mask.'
    assert describe({'traceback': own}).advice == ''
    assert describe({'traceback': 'Traceback ...\nKeyError: 1'}).advice == GENERAL_ADVICE
    error = {'node': 'register_brain', 'message': 'No brain. Look at the mask.', 'traceback': own}
    text = plain(Page(build_report(derivatives, PREFIX, errors=[error])))
    assert 'Look at the mask.' in text
    assert 'Run the same command again' not in text


def test_cautions_are_told(derivatives: Path) -> None:
    change_prediction(derivatives, InTrainingSet=True, ExplanationWarranted=False)
    stats = ScanFiles(derivatives, PREFIX).native('desc-counterfactual_stats.tsv')
    assert stats is not None
    lines = stats.read_text().splitlines()
    columns = lines[0].split('\t')
    cells = lines[1].split('\t')
    cells[columns.index('n_folded')] = '12'
    stats.write_text('\n'.join([lines[0], '\t'.join(cells)]) + '\n')
    text = plain(Page(build_report(derivatives, PREFIX)))
    assert 'only folds not trained with it speak here' in text
    assert 'no explanation is warranted' in text
    assert '12 voxels fold' in text


def test_a_scan_that_the_classifier_has_seen_is_told(derivatives: Path) -> None:
    change_prediction(derivatives, InTrainingSet=True, HeldOut=False)
    text = plain(Page(build_report(derivatives, PREFIX)))
    assert 'The classifier was trained with this scan' in text
    assert 'only folds not trained with it' not in text


def test_class_names_are_escaped(derivatives: Path) -> None:
    change_prediction(derivatives, Target={'negative': 'a<script>x', 'positive': '<img src=http:>'})
    page = Page(build_report(derivatives, PREFIX))
    assert all(address.startswith('data:') for address in page.loaded)
    assert '<img src=http:>' in page.text


def test_failed_scan_has_a_report_with_what_helps(tmp_path: Path) -> None:
    error = {'node': 'anatomical_wf.n4', 'traceback': 'Traceback\nMemoryError: <3 GiB>'}
    page = Page(build_report(tmp_path, 'sub-02_ses-a', errors=[error, error]))
    text = plain(page)
    assert 'This scan was not finished' in text
    assert 'Subject 02, session a' in text
    assert text.count('What helps') == 1
    assert 'Lower --nprocs' in text
    assert 'MemoryError: <3 GiB>' in text
    assert 'anatomical_wf.n4' in text


def test_half_finished_scan_shows_the_figures_that_exist(derivatives: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    for path in [*files.anatomical.glob('*prediction*'), *files.anatomical.glob('*stats*')]:
        path.unlink()
    for path in files.figures.iterdir():
        if '_desc-mask_' not in path.name:
            path.unlink()
    page = Page(build_report(derivatives, PREFIX))
    assert sum(address.startswith('data:image') for address in page.loaded) == 1
    assert 'No error was recorded; the results are incomplete' in plain(page)


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
    report = plain(Page(build_report(tmp_path, 'sub-01', errors=errors)))
    assert 'Free space in the output and work directories' in report


def test_report_is_the_same_when_made_again(derivatives: Path) -> None:
    first = build_report(derivatives, PREFIX).read_bytes()
    assert build_report(derivatives, PREFIX).read_bytes() == first
    assert not list(derivatives.glob('.*.html'))


def test_scan_without_derivatives_says_that_the_run_used_the_demonstration(tmp_path: Path) -> None:
    makers = [
        {'Name': 'bids_interp'},
        {'Name': 'demo', 'Description': 'Made with the demonstration model of bids_interp.'},
    ]
    (tmp_path / 'dataset_description.json').write_text(json.dumps({'GeneratedBy': makers}))
    assert 'Made with a demonstration model' in plain(Page(build_report(tmp_path, 'sub-01')))
    (tmp_path / 'dataset_description.json').write_text(json.dumps({'GeneratedBy': makers[:1]}))
    assert 'demonstration model' not in plain(Page(build_report(tmp_path, 'sub-01')))


def test_errors_come_before_the_figures(derivatives: Path) -> None:
    text = plain(Page(build_report(derivatives, PREFIX, errors=[{'node': 'x', 'message': 'gone'}])))
    assert text.index('What helps') < text.index('Pattern injected, towards')
    assert text.count('What helps') == 1


def test_checks_of_a_simulation_are_shown(derivatives: Path) -> None:
    stats = ScanFiles(derivatives, PREFIX).native('desc-counterfactual_stats.tsv')
    assert stats is not None
    checks = {'dose_monotonicity': '0.75', 'composition_rmse_mm': '0.0123', 'realism_z': 'n/a'}
    first, *rows = stats.read_text().splitlines()
    lines = ['\t'.join([first, *checks]), *('\t'.join([row, *checks.values()]) for row in rows)]
    stats.write_text('\n'.join(lines) + '\n')
    text = plain(Page(build_report(derivatives, PREFIX)))
    assert 'Steps of dose the right way' in text
    assert '75%' in text
    assert '0.0210.012n/a' in text
    assert 'What these numbers mean' in text


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
    summary = summarise(files)
    observed = [float(row[rows[0].index('logit')]) for row in rows[1:] if row[0] == 'none']
    assert summary.finished
    assert summary.values == pytest.approx([50 + 10 * value for value in observed])
    page = build_report(files.output_dir, files.prefix).read_text()
    assert 'What the dose means' in page
    before = files.figure('dose', '.svg').read_bytes()
    assert draw_dose_response(files).read_bytes() != before
    assert 'Probability of' not in page.partition('id="summary"')[2].partition('</section>')[0]
