"""The two nodes of the report, run by nipype."""

from __future__ import annotations

from pathlib import Path

from bids_interp.bids.read.scan_files import ScanFiles
from bids_interp.interfaces.reports import Report
from bids_interp.workflows.report import init_report_wf

PREFIX = 'sub-01_run-1'


def test_graph_has_two_working_nodes(tmp_path: Path) -> None:
    report_wf = init_report_wf(out_dir=tmp_path, prefix='sub-01', crash_dir=tmp_path / 'crashes')
    report_wf.inputs.inputnode.brain_files = []
    nodes = {node.name for node in report_wf._get_all_nodes()}
    assert nodes == {'inputnode', 'figures', 'report', 'outputnode'}


def test_workflow_draws_and_writes(derivatives: Path, tmp_path: Path) -> None:
    files = ScanFiles(derivatives, PREFIX)
    # Only what two figures need, for the time's sake.
    for path in files.anatomical.glob('*'):
        if '_stats' not in path.name and '_prediction' not in path.name:
            path.unlink()
    for path in files.figures.iterdir():
        path.unlink()
    table = files.native('desc-doseresponse_stats.tsv')
    report_wf = init_report_wf(out_dir=derivatives, prefix=PREFIX, run_uuid='uuid-8')
    report_wf.base_dir = tmp_path / 'work'
    report_wf.inputs.inputnode.brain_files = [str(table)]
    report_wf.inputs.inputnode.explain_files = [str(table)]
    report_wf.run()
    assert files.figure('dose', '.svg').exists()
    assert 'uuid-8' in files.report.read_text(encoding='utf-8')
    whole = files.figure('dose', '.svg').read_bytes()
    for damaged in (b'', whole.replace(b'a', b'b', 1)):
        files.figure('dose', '.svg').write_bytes(damaged)
        report_wf.run()  # the figures are cached
        assert files.figure('dose', '.svg').read_bytes() == whole


def test_report_node_shows_the_crashes_of_its_folder(tmp_path: Path) -> None:
    crashes = tmp_path / 'crashes'
    crashes.mkdir()
    (crashes / 'crash-1.txt').write_text('E-GONE')
    node = Report(out_dir=str(tmp_path), prefix='sub-01', crash_dir=str(crashes))
    page = Path(node.run(cwd=str(tmp_path)).outputs.out_report)
    assert 'E-GONE' in page.read_text(encoding='utf-8')
