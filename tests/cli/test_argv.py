"""Lists on the command line, wherever they stand."""

from __future__ import annotations

import pytest

from bids_interp.cli.argv import MANY, normalise

VALUES = {'--participant-label': MANY, '--dose': MANY, '-d': MANY, '--nprocs': 1, '-w': 1}
LEVELS = ('participant', 'group', 'train')
PLACES = ['/bids', '/out', 'participant']


def split(words: str) -> tuple[list[str], list[str]]:
    """Options and positionals after the normalisation."""
    done = normalise(words.split(), VALUES, 3, last=LEVELS)
    place = done.index('--') if '--' in done else len(done)
    return done[:place], done[place + 1 :]


LABELS = ['--participant-label', '01', '--participant-label', '02']


@pytest.mark.parametrize(
    'words',
    [
        '/bids /out participant --participant-label 01 02',
        '--participant-label 01 02 /bids /out participant',
        '/bids --participant-label 01 02 /out participant',
        '/bids /out --participant-label 01 02 participant',
        '/bids /out participant --participant-label 01 --participant-label 02',
        '--participant-label 01 --participant-label 02 /bids /out participant',
        '--participant-label 01 /bids /out participant --participant-label 02',
        '--participant-label 01 02 -- /bids /out participant',
    ],
)
def test_labels_are_found_wherever_they_stand(words: str) -> None:
    assert split(words) == (LABELS, PLACES)


def test_a_participant_called_like_a_level() -> None:
    options, places = split('/bids /out group --participant-label participant train')
    assert options == ['--participant-label', 'participant', '--participant-label', 'train']
    assert places == ['/bids', '/out', 'group']


def test_two_lists_share_the_positionals() -> None:
    options, places = split('/bids --participant-label 01 /out --dose 0.5 1 participant')
    assert options == ['--participant-label', '01', '--dose', '0.5', '--dose', '1']
    assert places == PLACES


def test_a_list_at_the_end_does_not_hide_the_level() -> None:
    options, places = split('--participant-label 01 /bids /out participant --dose 0.5 1')
    assert options == ['--participant-label', '01', '--dose', '0.5', '--dose', '1']
    assert places == PLACES


def test_values_of_other_options_stay_with_them() -> None:
    options, places = split('--nprocs 2 /bids -w work /out participant --participant-label 01 -v')
    assert options == ['--nprocs', '2', '-w', 'work', '--participant-label', '01', '-v']
    assert places == PLACES


def test_an_equals_sign_ends_its_own_list() -> None:
    options, places = split('--participant-label=01 /bids /out participant')
    assert options == ['--participant-label=01']
    assert places == PLACES


def test_a_negative_number_is_a_value() -> None:
    options, _ = split('/bids /out participant --dose -0.5')
    assert options == ['--dose', '-0.5']


@pytest.mark.parametrize('option', ['--participant-label', '--nprocs'])
def test_a_missing_value_is_left_for_click_to_refuse(option: str) -> None:
    assert normalise(['/bids', option], VALUES, 1) == [option]


def test_two_values_stay_together() -> None:
    values = {'--effect': MANY, '--severity': 2}
    words = ['--effect', 'a=-1%', 'b=-2%', '--severity', '1', '2', 'in', 'out']
    expected = ['--effect', 'a=-1%', '--effect', 'b=-2%', '--severity', '1', '2', '--', 'in', 'out']
    assert normalise(words, values, 2) == expected


@pytest.mark.parametrize('words', ['in out --effect a b', '--effect a b in out'])
def test_positionals_without_choices(words: str) -> None:
    expected = ['--effect', 'a', '--effect', 'b', '--', 'in', 'out']
    assert normalise(words.split(), {'--effect': MANY}, 2) == expected


def test_the_words_of_another_program_are_left_alone() -> None:
    rest = ['--dose', '0.5', '1', '/x']
    words = ['slurm', '--participant-label', '01', '02', '/bids', '/out', '--', *rest]
    done = normalise(words, VALUES, 3, has_rest=True)
    assert done == [*LABELS, '--', 'slurm', '/bids', '/out', *rest]
