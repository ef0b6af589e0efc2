"""Who has which label: read from tables, never guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bids_interp.bids.read.query import T1wRecord
from bids_interp.errors import InputDatasetError, UsageError
from bids_interp.levels.labels import LabelledImage, LabelTable, read_labels, strata
from bids_interp.settings import Settings

PEOPLE = """\
participant_id\tgroup\tage\tsex\tfamily_id\tscore
sub-01\tpatient\t31\tF\tA\t1.5
sub-02\tcontrol\t40\tM\tA\t2.5
sub-03\tpatient\t52\tM\tn/a\t3.5
sub-04\tcontrol\tn/a\tF\tB\t-1
"""


def record(subject: str, session: str | None = None) -> T1wRecord:
    entities = {'sub': subject, **({'ses': session} if session else {})}
    return T1wRecord(Path(f'sub-{subject}_T1w.nii'), subject, session, entities)


RECORDS = [record(f'0{n}') for n in range(1, 5)]


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    (tmp_path / 'participants.tsv').write_text(PEOPLE)
    return tmp_path


def read(bids: Path, records: list[T1wRecord] = RECORDS, **choices) -> LabelTable:
    chosen = {'label': 'group', 'positive': 'patient', **choices}
    settings = Settings(bids, bids / 'out', 'train', **chosen)
    return read_labels(settings, records)


def labels_of(table: LabelTable) -> dict[str, float]:
    return {image.record.prefix: image.label for image in table.images}


def test_two_classes(bids: Path) -> None:
    table = read(bids)
    assert (table.target.kind, table.target.classes) == ('binary', ('control', 'patient'))
    assert labels_of(table) == {'sub-01': 1, 'sub-02': 0, 'sub-03': 1, 'sub-04': 0}
    assert not table.left_out


def test_the_positive_class_is_the_one_named(bids: Path) -> None:
    table = read(bids, positive='control')
    assert table.target.classes == ('patient', 'control')
    assert labels_of(table)['sub-02'] == 1


def test_labels_in_their_own_table(bids: Path) -> None:
    other = bids / 'other.tsv'
    # As spreadsheets write it: a byte order mark, other line ends, blanks, labels without prefix.
    rows = ['participant_id\tgroup', '01\tcontrol', '02\tpatient ', '03\tcontrol', '04\tpatient']
    other.write_bytes(b'\xef\xbb\xbf' + '\r\n'.join(rows).encode() + b'\r\n')
    assert labels_of(read(bids, labels=other)) == {
        'sub-01': 0,
        'sub-02': 1,
        'sub-03': 0,
        'sub-04': 1,
    }


def with_sessions(bids: Path) -> list[T1wRecord]:
    folder = bids / 'sub-01'
    folder.mkdir()
    text = 'session_id\tdiagnosis\nses-a\tcontrol\nses-b\tpatient\n'
    (folder / 'sub-01_sessions.tsv').write_text(text)
    (bids / 'sub-02').mkdir()
    text = 'session_id\tdiagnosis\nses-a\tpatient\nses-b\tn/a\n'
    (bids / 'sub-02' / 'sub-02_sessions.tsv').write_text(text)
    return [record('01', 'a'), record('02', 'a'), record('02', 'b')]


def test_sessions_have_labels_of_their_own(bids: Path) -> None:
    table = read(bids, with_sessions(bids), label='diagnosis', allow_unlabelled=True)
    assert labels_of(table) == {'sub-01_ses-a': 0, 'sub-02_ses-a': 1}
    assert list(table.left_out) == ['sub-02_ses-b']
    assert 'diagnosis' in table.left_out['sub-02_ses-b']


def test_a_label_of_the_session_goes_before_that_of_the_participant(bids: Path) -> None:
    records = with_sessions(bids)
    for number, value in (('01', 'control'), ('02', 'patient')):
        path = bids / f'sub-{number}' / f'sub-{number}_sessions.tsv'
        path.write_text(f'session_id\tgroup\nses-a\t{value}\n')
    # participants.tsv calls sub-01 a patient and sub-02 a control; ses-b has no row of its own.
    assert labels_of(read(bids, records[:2])) == {'sub-01_ses-a': 0, 'sub-02_ses-a': 1}


def test_a_given_table_may_have_a_row_per_session(bids: Path) -> None:
    other = bids / 'other.tsv'
    other.write_text(
        'participant_id\tsession_id\tgroup\nsub-01\tses-a\tpatient\nsub-01\tses-b\tpatient\n'
        'sub-02\ta\tcontrol\nsub-03\tses-a\tcontrol\n'
    )
    records = [record('01', 'a'), record('01', 'b'), record('02', 'a')]
    assert list(labels_of(read(bids, records, labels=other)).values()) == [1, 1, 0]


def test_a_subject_in_two_classes(bids: Path) -> None:
    records = [*with_sessions(bids), record('01', 'b')]
    with pytest.raises(InputDatasetError, match=r'\n  sub-01: control, patient\n') as caught:
        read(bids, records, label='diagnosis', allow_unlabelled=True)
    assert '--session-label' in caught.value.advice


def test_the_same_subject_twice_in_one_class_is_fine(bids: Path) -> None:
    table = read(bids, [record('01', 'a'), record('01', 'b'), record('02', 'a')])
    assert [image.family for image in table.images] == ['01', '01', '02']


def test_contradictory_rows(bids: Path) -> None:
    (bids / 'participants.tsv').write_text(PEOPLE + 'sub-02\tpatient\t40\tM\tA\t1\n')
    with pytest.raises(InputDatasetError, match=r'participants\.tsv.* group ') as caught:
        read(bids)
    assert '  sub-02: control, patient' in str(caught.value)
    # Twice the same is no contradiction.
    (bids / 'participants.tsv').write_text(PEOPLE + 'sub-02\tcontrol\t41\tM\tA\t1\n')
    assert len(read(bids).images) == 4


@pytest.mark.parametrize('missing', ['', 'n/a', 'NaN', 'NA'])
def test_missing_labels_are_listed(bids: Path, missing: str) -> None:
    (bids / 'participants.tsv').write_text(PEOPLE.replace('sub-03\tpatient', f'sub-03\t{missing}'))
    records = [*RECORDS, record('99')]
    with pytest.raises(InputDatasetError) as caught:
        read(bids, records)
    assert '  sub-03\n  sub-99' in caught.value.message
    assert '--allow-unlabelled' in (caught.value.advice or '')
    table = read(bids, records, allow_unlabelled=True)
    assert list(labels_of(table)) == ['sub-01', 'sub-02', 'sub-04']
    assert set(table.left_out) == {'sub-03', 'sub-99'}


def test_many_missing_labels_are_cut(bids: Path) -> None:
    with pytest.raises(InputDatasetError, match=r'\n  \D*\b4\b\D*\n') as caught:
        read(bids, [*RECORDS, *(record(f'x{n}') for n in range(24))])
    assert caught.value.message.count('sub-x') == 20


def test_a_class_that_was_not_asked_for_is_left_out(bids: Path) -> None:
    (bids / 'participants.tsv').write_text(PEOPLE + 'sub-05\tother\t1\tF\tC\t1\n')
    records = [*RECORDS, record('05')]
    with pytest.raises(UsageError, match='control, other, patient') as caught:
        read(bids, records)
    assert '--negative' in caught.value.advice
    assert '--positive' not in caught.value.advice
    table = read(bids, records, negative='control')
    assert list(table.left_out) == ['sub-05']
    assert 'other' in table.left_out['sub-05']
    assert len(table.images) == 4


def test_several_classes_in_the_order_given(bids: Path) -> None:
    (bids / 'participants.tsv').write_text(PEOPLE + 'sub-05\tother\t1\tF\tC\t1\n')
    classes = ('other', 'control', 'patient')
    table = read(bids, [*RECORDS, record('05')], positive=None, classes=classes)
    assert (table.target.kind, table.target.classes) == ('multiclass', classes)
    assert list(labels_of(table).values()) == [2, 1, 2, 1, 0]


def test_a_number_is_predicted(bids: Path) -> None:
    table = read(bids, label='score', positive=None, regression=True)
    values = [1.5, 2.5, 3.5, -1.0]
    assert list(labels_of(table).values()) == values
    assert table.target.mean == pytest.approx(np.mean(values))
    assert table.target.sd == pytest.approx(np.std(values))


def test_what_is_no_number_is_named(bids: Path) -> None:
    with pytest.raises(InputDatasetError, match=r'participants\.tsv.* sex ') as caught:
        read(bids, label='sex', positive=None, regression=True)
    assert '  sub-01: F' in caught.value.message
    (bids / 'participants.tsv').write_text(PEOPLE.replace('3.5', 'inf'))
    with pytest.raises(InputDatasetError, match='sub-03: inf'):
        read(bids, label='score', positive=None, regression=True)


def test_a_number_that_is_the_same_for_all(bids: Path) -> None:
    (bids / 'participants.tsv').write_text('participant_id\tscore\n01\t2\n02\t2.0\n')
    with pytest.raises(InputDatasetError, match=r'participants\.tsv.* score '):
        read(bids, RECORDS[:2], label='score', positive=None, regression=True)


def test_one_class_only(bids: Path) -> None:
    with pytest.raises(InputDatasetError, match="group .*'patient'"):
        read(bids, [RECORDS[0], RECORDS[2]])


@pytest.mark.parametrize(
    ('choices', 'words'),
    [
        ({'label': 'grup'}, "--label 'grup'.*'group'"),
        ({'covariates': ('age', 'sexx')}, "--covariates 'sexx'.*'sex'"),
        ({'family': 'family'}, "--family 'family'.*'family_id'"),
        ({'positive': 'Patients'}, "--positive 'Patients'.*'patient'"),
        ({'negative': 'contrl'}, "--negative 'contrl'.*'control'"),
        ({'positive': None, 'classes': ('control', 'patient', 'MCI')}, "--classes 'MCI'"),
        ({'positive': None}, 'control, patient.*--regression'),
    ],
)
def test_mistakes_get_a_suggestion(bids: Path, choices: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(bids, **choices)


def test_no_table(tmp_path: Path) -> None:
    with pytest.raises(InputDatasetError, match=r'participants\.tsv') as caught:
        read(tmp_path)
    assert caught.value.exit_code == 4
    assert '--labels' in caught.value.advice
    (tmp_path / 'participants.tsv').write_text('subject,group\n01,a\n')
    with pytest.raises(InputDatasetError, match=r'participants\.tsv.* participant_id'):
        read(tmp_path)


def test_a_table_of_another_encoding(bids: Path) -> None:
    (bids / 'participants.tsv').write_bytes(
        'participant_id\tgroup\n01\tm\xe4nner\n'.encode('cp1252')
    )
    with pytest.raises(InputDatasetError, match=r'participants\.tsv.*0xe4'):
        read(bids)


def test_families_and_covariates(bids: Path) -> None:
    table = read(bids, family='family_id', covariates=('age', 'sex'))
    # Without a family of its own a subject belongs to nobody else.
    assert [image.family for image in table.images] == ['A', 'A', 'sub-03', 'B']
    assert table.images[0].covariates == {'age': '31', 'sex': 'F'}
    assert table.images[3].covariates == {'sex': 'F'}


def test_a_family_column_filled_for_some_sessions_tears_nobody_apart(bids: Path) -> None:
    other = bids / 'other.tsv'
    other.write_text(
        'participant_id\tsession_id\tgroup\tfamily\n'
        'sub-01\tses-a\tpatient\tB\nsub-01\tses-b\tpatient\tn/a\n'
        'sub-02\tses-a\tcontrol\tn/a\nsub-02\tses-b\tcontrol\tA\n'
        'sub-03\tses-a\tcontrol\tn/a\nsub-03\tses-b\tcontrol\tn/a\n'
        # No image, but a relative of both.
        'sub-04\tses-a\tpatient\tB\nsub-04\tses-b\tpatient\tA\n'
        'sub-05\tses-a\tpatient\tC\nsub-05\tses-b\tpatient\tn/a\n'
    )
    records = [record(f'0{n}', session) for n in (1, 2, 3, 5) for session in 'ab']
    families = [image.family for image in read(bids, records, labels=other, family='family').images]
    assert families == ['A', 'A', 'A', 'A', 'sub-03', 'sub-03', 'C', 'C']


def test_a_family_is_known_from_the_sessions_table_of_another_session(bids: Path) -> None:
    records = with_sessions(bids)
    path = bids / 'sub-02' / 'sub-02_sessions.tsv'
    path.write_text('session_id\tkin\nses-a\tK\nses-b\tn/a\n')
    table = read(bids, records, family='kin')
    assert [image.family for image in table.images] == ['sub-01', 'K', 'K']


def test_a_family_named_after_a_participant_is_its_own(bids: Path) -> None:
    other = bids / 'other.tsv'
    rows = ['sub-01\tpatient\tn/a', 'sub-02\tcontrol\tsub-01', 'sub-03\tcontrol\tn/a']
    other.write_text('\n'.join(['participant_id\tgroup\tfamily', *rows]) + '\n')
    table = read(bids, RECORDS[:3], labels=other, family='family')
    assert [image.family for image in table.images] == ['sub-01', 'sub-01', 'sub-03']


def test_none_is_a_value(bids: Path) -> None:
    (bids / 'participants.tsv').write_text(PEOPLE.replace('control', 'none'))
    assert read(bids).target.classes == ('none', 'patient')


def labelled(**covariates: list[str | None]) -> list[LabelledImage]:
    count = len(next(iter(covariates.values())))
    rows = [{c: v[n] for c, v in covariates.items() if v[n] is not None} for n in range(count)]
    return [LabelledImage(record(str(n)), 0, str(n), row) for n, row in enumerate(rows)]


def test_numbers_are_cut_at_their_median_and_names_are_kept() -> None:
    images = labelled(age=['20', '30', '40', '50', '60', None], sex=['M', 'F', 'M', 'F', None, 'M'])
    age, sex = strata(images, ['age', 'sex'])
    # The median, 40, is with the younger, and so is who has no age.
    assert age.tolist() == ['0', '0', '0', '1', '1', '0']
    assert sex.tolist() == ['M', 'F', 'M', 'F', 'None', 'M']


def test_a_number_of_few_values_is_a_name() -> None:
    assert strata(labelled(dose=['1', '2', '3', '1']), ['dose'])[0].tolist() == ['1', '2', '3', '1']


@pytest.mark.parametrize('column', ['site', 'Site', 'sex'])
def test_sites_written_as_numbers_are_names(column: str) -> None:
    codes = ['1', '2', '3', '4', '5', '6', '1']
    assert strata(labelled(**{column: codes}), [column])[0].tolist() == codes
