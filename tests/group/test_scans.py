"""Who is in and who is not: never mixed silently."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bids_interp.errors import InputDatasetError, NothingToDoError
from bids_interp.group.scans import (
    ABSENT,
    FURTHER,
    HELD_OUT,
    NO_MAP,
    OTHER_GRID,
    OWN_GRIDS,
    STALE_MAPS,
    TRAINED_WITH,
    UNEXPLAINED,
    UNTRAINED,
    choose_summarised_model,
    find_scans,
    inclusion_row,
    order_scans,
    select_scans,
)
from helpers import cohorts


def reasons(scans) -> dict[str, str]:
    return {scan.prefix: scan.reason for scan in scans}


def test_new_subjects_of_one_model_are_in(make_cohort, chosen) -> None:
    found = chosen(make_cohort().out)
    assert [scan.subject for scan in found] == ['01', '02', '03', '04', '05', '06']
    assert set(reasons(found).values()) == {''}
    assert found[0].block == '0-1-2'
    assert sorted(found[0].maps) == ['inject100', 'remove100']


def test_other_models_versions_and_grids_are_left_out(make_cohort, chosen) -> None:
    out = make_cohort().out
    cohorts.write_scan(out, 'model', ModelHash='another')
    cohorts.write_scan(out, 'contrast', ModelHash='abcdef123456-1')
    version = {'GeneratedBy': [{'Name': 'bids_interp', 'Version': '9.9'}]}
    cohorts.write_scan(out, 'version', **version)
    folder = cohorts.write_scan(out, 'grid')
    for path in folder.glob('*_logjacobian.nii.gz'):
        cohorts.save(path, np.zeros((5, 5, 5), 'f4'), np.eye(4))
    found = reasons(chosen(out))
    assert 'another' in found['sub-model']
    assert 'abcdef123456-1' in found['sub-contrast']
    assert '9.9' in found['sub-version']
    assert found['sub-grid'] == OTHER_GRID
    assert sum(not reason for reason in found.values()) == 6


def test_a_subject_that_is_still_being_processed(make_cohort, chosen) -> None:
    out = make_cohort().out
    (out / 'sub-begun' / 'anat').mkdir(parents=True)
    folder = cohorts.write_scan(out, 'half')
    for path in folder.glob('*_logjacobian.nii.gz'):
        path.unlink()
    next(folder.glob('*_velocity.nii.gz')).unlink()
    folder = cohorts.write_scan(out, 'torn')
    (folder / 'sub-torn_desc-explain_prediction.json').write_text('{"ModelName": ')
    folder = cohorts.write_scan(out, 'empty')
    next(folder.glob('*_desc-inject100_logjacobian.nii.gz')).write_bytes(b'')
    found = reasons(chosen(out))
    assert found['sub-begun'] == UNEXPLAINED
    assert found['sub-half'] == NO_MAP
    assert 'sub-torn_desc-explain_prediction.json' in found['sub-torn']
    assert 'desc-inject100_logjacobian.nii.gz' in found['sub-empty']


def test_maps_of_another_model_are_not_taken(make_cohort, chosen) -> None:
    """A second run without template space leaves the maps of the first one."""
    out = make_cohort().out
    named = {
        'fresh': {'logjacobian': cohorts.DIGEST, 'velocity': cohorts.DIGEST},
        'moved': {'logjacobian': 'another', 'velocity': cohorts.DIGEST},
        'stale': {'logjacobian': 'another', 'velocity': 'another'},
    }
    for subject, hashes in named.items():
        folder = cohorts.write_scan(out, subject)
        for suffix, digest in hashes.items():
            for path in folder.glob(f'*_{suffix}.nii.gz'):
                beside = path.with_name(path.name.replace('.nii.gz', '.json'))
                beside.write_text(json.dumps({'ModelHash': digest}))
    found = {scan.subject: scan for scan in chosen(out)}
    assert sorted(found['fresh'].maps) == ['inject100', 'remove100']
    assert found['fresh'].reason == found['moved'].reason == ''
    assert found['moved'].maps == {}
    assert found['moved'].velocity is not None
    assert found['moved'].grid == found['fresh'].grid
    assert found['stale'].reason == STALE_MAPS
    # Of the observed brain, but in the space of another model.
    assert found['fresh'].anatomy is not None
    assert found['moved'].anatomy is None


def test_maps_in_other_templates_are_not_taken(make_cohort, chosen) -> None:
    out = make_cohort().out
    scan = chosen(out)[0]
    for name in ('AAA', 'ZZZ'):
        for path in scan.maps.values():
            other = path.with_name(path.name.replace(f'space-{scan.space}', f'space-{name}'))
            cohorts.save(other, np.ones((5, 5, 5), 'f4'), np.eye(4))
    again = chosen(out)[0]
    assert (again.space, again.maps, again.reason) == (scan.space, scan.maps, '')


def test_a_displacement_of_another_model_is_not_taken(make_cohort, chosen) -> None:
    scan = chosen(make_cohort(('a', 'b')).out)[0]
    path = scan.folder / scan.velocity.name.replace('velocity', 'displacement')
    path.write_bytes(scan.velocity.read_bytes())
    assert scan.displacement == path
    path.with_name(path.name.replace('.nii.gz', '.json')).write_text('{"ModelHash": "another"}')
    assert scan.displacement is None


def test_training_subjects_are_held_out_by_cross_fitting_only(make_cohort, chosen) -> None:
    """One fold has not seen it: in. All folds explain it: a classifier that has seen it: out."""
    out = make_cohort(folds=[(0,), (1,), (2,)] * 2, in_training=True).out
    cohorts.write_scan(out, 'seen', in_training=True, folds=(0, 1, 2))
    cohorts.write_scan(out, 'new', folds=(0, 1, 2))
    found = {scan.prefix: scan for scan in chosen(out)}
    assert found['sub-seen'].reason.startswith(TRAINED_WITH)
    assert found['sub-new'].reason == ''
    assert found['sub-01'].reason == ''
    assert found['sub-01'].note == HELD_OUT
    taken = {scan.prefix: scan for scan in chosen(out, include_training=True)}
    assert taken['sub-seen'].reason == ''
    assert taken['sub-seen'].note == TRAINED_WITH


def test_two_folds_are_not_all_of_a_model_of_three(make_cohort, chosen) -> None:
    out = make_cohort(folds=[(0, 1)] * 6, in_training=True).out
    assert set(reasons(chosen(out, n_folds=3)).values()) == {''}
    with_two = reasons(chosen(out, n_folds=2))
    assert all(reason.startswith(TRAINED_WITH) for reason in with_two.values())


def test_a_subject_counts_once(make_cohort, chosen) -> None:
    found = chosen(make_cohort(('a', 'b'), sessions=('x', 'y')).out)
    assert reasons(found) == {
        'sub-01_ses-x': '',
        'sub-01_ses-y': FURTHER,
        'sub-02_ses-x': '',
        'sub-02_ses-y': FURTHER,
    }


def test_participants_and_sessions_can_be_chosen(make_cohort) -> None:
    out = make_cohort(('a', 'b', 'a'), sessions=('x', 'y')).out
    found = find_scans(out, ['01', '03', 'nobody'], ['y'])
    assert [scan.prefix for scan in found] == ['sub-01_ses-y', 'sub-03_ses-y', 'sub-nobody']
    assert found[-1].reason == ABSENT


def test_no_derivatives(tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match=re.escape(str(tmp_path))) as caught:
        find_scans(tmp_path)
    assert 'participant' in caught.value.advice
    (tmp_path / 'sub-01' / 'anat').mkdir(parents=True)
    with pytest.raises(NothingToDoError):
        find_scans(tmp_path)


def test_a_model_that_nobody_was_explained_by(make_cohort) -> None:
    scans = find_scans(make_cohort().out)
    with pytest.raises(InputDatasetError, match=r'\bother \(1\)'):
        choose_summarised_model(scans, ('other', '1'))


def test_the_most_frequent_model_is_taken(make_cohort) -> None:
    out = make_cohort(('a', 'b')).out
    for subject in ('x', 'y', 'z'):
        cohorts.write_scan(out, subject, ModelName='bigger', ModelHash='1')
    assert choose_summarised_model(find_scans(out)) == ('bigger', '1')


def test_rows_of_the_table(make_cohort, chosen) -> None:
    scan = chosen(make_cohort(('a', 'b')).out)[0]
    row = inclusion_row(scan, 'a')
    assert (row['participant_id'], row['included'], row['folds']) == ('sub-01', True, '0-1-2')
    assert json.dumps(row)


def test_maps_of_one_subject_on_two_grids(make_cohort) -> None:
    cohort = make_cohort()
    path = next((cohort.out / 'sub-02').glob('anat/*desc-remove100_logjacobian.nii.gz'))
    image = nib.load(path)
    cohorts.save(path, np.asarray(image.dataobj)[1:], image.affine)
    scans = find_scans(cohort.out)
    found = reasons(select_scans(scans, (cohorts.MODEL, cohorts.DIGEST), 3, False))
    assert found['sub-02'] == OWN_GRIDS


def test_a_brought_classifier_that_has_seen_the_scan(make_cohort, chosen) -> None:
    """What the prediction says counts, not the number of folds."""
    out = make_cohort().out
    cohorts.write_scan(out, 'seen', in_training=True, folds=(0,), HeldOut=False)
    cohorts.write_scan(out, 'unseen', in_training=True, folds=(0, 1, 2), HeldOut=True)
    found = reasons(chosen(out))
    assert found['sub-seen'].startswith(TRAINED_WITH)
    assert found['sub-unseen'] == ''


@pytest.mark.parametrize(('warranted', 'reason'), [(True, UNTRAINED), (False, '')])
def test_empty_maps_do_not_dilute_those_of_others(make_cohort, chosen, warranted, reason) -> None:
    """Of a fold whose published simulator was not trained, in a model that is explained."""
    out = make_cohort().out
    pattern = {'Capacity': 'ipmi2021', 'Personal': True, 'Found': False}
    given = {'ExplanationWarranted': warranted, 'in_training': True, 'folds': (2,)}
    cohorts.write_scan(out, 'empty', Pattern=pattern, **given)
    cohorts.write_scan(out, 'full', Pattern={**pattern, 'Found': True}, **given)
    found = reasons(chosen(out))
    assert (found['sub-empty'], found['sub-full']) == (reason, '')


def visits(scans) -> list[str]:
    return [scan.session for scan in scans if scan.subject == '01']


def test_sessions_are_in_the_order_of_time(make_cohort) -> None:
    cohort = make_cohort(('patient', 'control'), sessions=('1', '2', '10', 'post', 'pre'))
    scans = find_scans(cohort.out)
    assert order_scans(scans, cohort.bids)[1]
    assert visits(order_scans(scans, cohort.bids)[0]) == ['1', '2', '10', 'post', 'pre']
    for subject in ('01', '02'):
        folder = cohort.bids / f'sub-{subject}'
        for rank, session in enumerate(('pre', 'post', '10', '2', '1')):
            (folder / f'ses-{session}').mkdir(parents=True)
            (folder / f'ses-{session}' / f'sub-{subject}_ses-{session}_scans.tsv').write_text(
                'filename\tacq_time\n'
                f'anat/sub-{subject}_ses-{session}_T1w.nii.gz\t2020-01-1{rank}T10:00:00\n'
            )
    ordered, by_name = order_scans(scans, cohort.bids)
    assert not by_name
    assert visits(ordered) == ['pre', 'post', '10', '2', '1']
    years = {'1': 2025, '2': 2023, '10': 2021, 'post': 2024, 'pre': 2022}
    rows = [f'ses-{name}\t{year}-01-01' for name, year in years.items()]
    table = cohort.bids / 'sub-01' / 'sub-01_sessions.tsv'
    table.write_text('session_id\tacq_time\n' + '\n'.join(rows) + '\n')
    ordered, by_name = order_scans(scans, cohort.bids)
    assert not by_name
    assert visits(ordered) == ['10', 'pre', '2', 'post', '1']
    assert [scan.subject for scan in ordered] == [scan.subject for scan in scans]
