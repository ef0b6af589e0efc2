from __future__ import annotations

from collections import Counter

import pytest

from bids_interp.errors import UsageError
from bids_interp.phantom.change.effects import parse_effect
from bids_interp.phantom.inject.assignment import assign_groups
from bids_interp.phantom.inject.scenarios import SCENARIOS, custom_scenario, scenario

FAMILIES = [f'{number:02d}' for number in range(10)]


def test_each_brain_is_split_as_evenly_as_possible():
    made = assign_groups(FAMILIES, SCENARIOS['S1'], fraction=0.4, replicates=4, seed=3)
    assert len(made) == 40
    per_brain = Counter(one.family for one in made if one.patient)
    assert sum(per_brain.values()) == 16
    assert set(per_brain.values()) == {1, 2}
    assert [one.label for one in made[:4]] == ['00r1', '00r2', '00r3', '00r4']
    assert {one.number for one in made if one.patient} == {1, 2, 3, 4}
    for one in made:
        assert 0.7 <= one.strength <= 1.3
        assert one.severity == (one.strength if one.patient else 0)


def test_labels_come_from_the_seed_and_warps_from_the_brain_alone():
    first, again, other = (
        assign_groups(FAMILIES, SCENARIOS['S1'], replicates=2, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert [one.patient for one in first] != [one.patient for one in other]
    fewer = assign_groups(FAMILIES[:4], SCENARIOS['S1'], replicates=2, seed=1)
    assert [one.strength for one in fewer] == [one.strength for one in first[:8]]
    assert [one.seed(1) for one in fewer] == [one.seed(1) for one in first[:8]]
    assert len({tuple(one.seed(1)) for one in first}) == 20


def test_confound_is_put_on_seven_of_ten_patients_and_three_of_ten_controls():
    made = assign_groups(FAMILIES, SCENARIOS['S6'], replicates=4)
    shares = Counter((one.group, one.confound) for one in made)
    assert shares == {
        ('patient', True): 14,
        ('patient', False): 6,
        ('control', True): 6,
        ('control', False): 14,
    }
    assert not any(one.confound for one in assign_groups(FAMILIES, SCENARIOS['S1']))


def test_null_has_no_severity_and_scaling_is_drawn_in_both_groups():
    assert {one.severity for one in assign_groups(FAMILIES, SCENARIOS['S7'])} == {0}
    scaled = assign_groups(FAMILIES, SCENARIOS['S8'], replicates=2)
    for group in ('patient', 'control'):
        factors = [one.scaling for one in scaled if one.group == group]
        assert min(factors) < 1 < max(factors)
        assert max(abs(factor - 1) for factor in factors) < 0.09
    assert {one.scaling for one in assign_groups(FAMILIES, SCENARIOS['S3'])} == {1.0}


@pytest.mark.parametrize(
    ('options', 'word'),
    [
        ({'fraction': 0.0}, r'^0\.0 '),
        ({'fraction': 1.0}, r'^1\.0 '),
        ({'fraction': 0.01}, r'\b0\.01 .*\b0 patients\b.* 2 '),
        ({'fraction': 0.95}, r'\b0\.95 .*\b0 controls\b.* 2 '),
        ({'severity': (1.0, 0.5)}, r'^1\.0 \w+ 0\.5 '),
        ({'severity': (0.0, 0.5)}, r'^0\.0 \w+ 0\.5 '),
        ({'replicates': 0}, '^0 replicates '),
        ({'seed': -1}, r'seed\b.* -1 '),
    ],
)
def test_impossible_cohorts_are_refused(options, word):
    with pytest.raises(UsageError, match=word):
        assign_groups(FAMILIES, SCENARIOS['S1'], **options)


def test_one_brain_alone_is_too_few():
    with pytest.raises(UsageError, match=r'^1 .*\b2 replicates'):
        assign_groups(['01'], SCENARIOS['S1'], replicates=2)


def test_scenarios_have_the_strengths_of_the_benchmark():
    assert [*SCENARIOS] == [*(f'S{number}' for number in range(1, 10)), 'S10a', 'S10b', 'S11']
    sizes = [scenario('S1', name).changes['hippocampus'] for name in ('mild', 'moderate', 'strong')]
    assert sizes == [-0.08, -0.15, -0.25]
    assert scenario('S4').changes == {'ventricles': 0.3}
    assert scenario('S8').changes == scenario('S3').changes == {'thalamus_left': -0.15}
    assert scenario('S7').changes == {}
    assert scenario('S7').effect.changes
    assert custom_scenario(parse_effect('none')).null
    assert custom_scenario(parse_effect('ventricles')).changes == {'ventricles': 0.3}
    for wrong in (('S99', 'mild'), ('S1', 'deadly')):
        with pytest.raises(UsageError, match=wrong[0] if wrong[0] == 'S99' else wrong[1]):
            scenario(*wrong)


def test_effects_are_read_in_percent_and_from_several_texts():
    made = parse_effect(['hippocampus=-15%', 'amygdala = -0.1, absorb=csf'])
    assert made.changes == {'hippocampus': -0.15, 'amygdala': -0.1}
    assert made.absorb == 'csf'
    named = parse_effect(['Pole, left=-5%'], names=['Pole, left'])
    assert named.changes == {'Pole, left': -0.05}
    with pytest.raises(UsageError, match='caudate'):
        parse_effect(['caudate=-1%', 'caudate=-2%'])
    with pytest.raises(UsageError, match="'%'.*caudate"):
        parse_effect('caudate=%')
    with pytest.raises(UsageError, match="'thalamus_left'"):
        parse_effect(['caudate=-1%', 'thalamus_left'])


def test_subtypes_are_drawn_evenly_in_each_class_of_a_brain():
    made = assign_groups(FAMILIES, SCENARIOS['S9'], replicates=8, seed=3)
    for family in FAMILIES:
        for patient in (True, False):
            own = [r.subtype for r in made if (r.family, r.patient) == (family, patient)]
            assert sorted(own) == [0, 0, 1, 1]
    other = assign_groups(FAMILIES, SCENARIOS['S9'], replicates=8, seed=4)
    assert [r.subtype for r in made] != [r.subtype for r in other]
    assert {r.subtype for r in assign_groups(FAMILIES, SCENARIOS['S1'], replicates=8)} == {0}
    # Subtypes change nothing else about the images.
    plain = assign_groups(FAMILIES, SCENARIOS['S1'], replicates=8, seed=3)
    assert [(r.patient, r.strength) for r in made] == [(r.patient, r.strength) for r in plain]


def test_subtypes_have_their_own_strength_and_regions():
    mild = scenario('S9', 'mild')
    assert [sorted(effect.changes) for effect in mild.effects] == [
        ['amygdala', 'hippocampus'], ['caudate', 'putamen']
    ]  # fmt: skip
    assert set(mild.changes.values()) == {-0.24}
    assert [name for name, one in SCENARIOS.items() if one.benchmark_only] == [
        'S9', 'S10a', 'S10b', 'S11'
    ]  # fmt: skip
    assert len(SCENARIOS['S11'].regressed) == 10
